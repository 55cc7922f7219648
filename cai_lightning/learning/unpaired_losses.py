"""Losses of replies that were rated alone, as pure functions; log-probabilities are sums over a reply, in nats."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cai_lightning.learning.losses import LossOutput, Row, Scalar, weighted_mean


class UnpairedInput(NamedTuple):
    """What a loss of unpaired replies may look at: summed log-probabilities in nats, ratings, a point of reference.

    `p_desirable` is the probability that a reply is a good one; `weight` scales a reply, and what stands beside the
    weight 0 is not read. `kl`, in nats, is how far the policy has moved from the reference.
    """

    policy: Row
    reference: Row
    p_desirable: Row
    weight: Row
    kl: Scalar


def kto_loss(replies: UnpairedInput, *, beta: float, desirable_weight: float, undesirable_weight: float) -> LossOutput:
    """The weighted mean KTO loss of a reply, a number without unit: 0 where all is gained, its label's weight at worst.

    A desirable reply should gain probability, beyond what the policy has moved at all; an undesirable one lose it. A
    soft rating is the mean over both hard ones. At log-ratio 0 and KL 0 a reply costs half its label's weight. Rewards
    are logged of replies that are rather desirable than not, and of the others; NaN where a batch has none.
    Source: Ethayarajh et al. 2024 (arXiv 2402.01306), eq. 8, in its first version eq. 7, in which lambda_D and lambda_U
    are `desirable_weight`, `undesirable_weight`.
    """
    # Masked first: a gradient of 0 times NaN would be NaN.
    ratio = torch.where(replies.weight > 0, replies.policy - replies.reference, 0.0)
    gain = beta * (ratio - replies.kl.detach())
    # 1 - sigmoid(x) = sigmoid(-x)
    desirable, undesirable = desirable_weight * torch.sigmoid(-gain), undesirable_weight * torch.sigmoid(gain)
    per_reply = replies.p_desirable * desirable + (1 - replies.p_desirable) * undesirable
    with torch.no_grad():
        good, bad = _sides(replies.p_desirable, replies.weight)
        metrics = {
            "kl": replies.kl.detach(),
            "rewards/desirable": beta * weighted_mean(ratio, good),
            "rewards/undesirable": beta * weighted_mean(ratio, bad),
            "logps/policy": weighted_mean(replies.policy, replies.weight),
        }
    return LossOutput(weighted_mean(per_reply, replies.weight), metrics)


@torch.no_grad()
def rated(p_desirable: Row, weight: Row) -> dict[str, Tensor]:
    """The weight of the replies behind each figure of `kto_loss` that is of one side alone."""
    good, bad = _sides(p_desirable, weight)
    return {"rewards/desirable": good.sum(), "rewards/undesirable": bad.sum()}


def _sides(p_desirable: Row, weight: Row) -> tuple[Row, Row]:
    """The weights of the replies that are rather desirable than not, and of the others; 0 where a reply is neither."""
    return torch.where(p_desirable > 0.5, weight, 0.0), torch.where(p_desirable < 0.5, weight, 0.0)


@torch.no_grad()
def batch_kl(policy: Row, reference: Row) -> Scalar:
    """The mean log-ratio of mismatched texts, in nats, not below 0 and without a gradient; 0 of none.

    Prompts with the replies of other rows stand for samples of the policy, so it is no estimate of the KL divergence
    without bias, but one without sampling. Source: Ethayarajh et al. 2024 (arXiv 2402.01306), the estimate of z_0;
    theirs is of a microbatch, ours of an optimizer step.
    """
    return (policy - reference).sum().div(max(1, len(policy))).clamp(min=0)
