"""Losses as pure functions of log-probabilities, rewards and values; each states what it divides by.

Every preference loss takes one `PreferenceInput` and soft labels, so a new loss is one function here. Nothing in this
file knows a model, a tokenizer or Lightning. Log-probabilities are sums over response tokens, in nats.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

Row = Float[Tensor, " row"]
Lengths = Int[Tensor, " row"]
Scalar = Float[Tensor, ""]
Values = Float[Tensor, "*shape"]
Where = Bool[Tensor, "*shape"]


class LossOutput(NamedTuple):
    """A loss with its graph, and figures to log without one."""

    loss: Scalar
    metrics: dict[str, Tensor]


class PreferenceInput(NamedTuple):
    """What a preference loss may look at: summed log-probabilities in nats, response lengths in tokens, labels.

    `p_chosen` is the label's probability that `chosen` is better; `weight` scales a pair. The reference is None
    for losses that need none.
    """

    policy_chosen: Row
    policy_rejected: Row
    lengths_chosen: Lengths
    lengths_rejected: Lengths
    reference_chosen: Row | None
    reference_rejected: Row | None
    p_chosen: Row
    weight: Row


def masked_mean(x: Values, mask: Where) -> Scalar:
    """The mean of `x` where the mask is set; what lies elsewhere, NaN included, never enters value or gradient."""
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp(min=1)


def weighted_mean(x: Row, weight: Row) -> Scalar:
    """The weighted mean of `x`; weights are positive."""
    return (x * weight).sum() / weight.sum()


def weighted_nll(logps: Values, weights: Values, divisor: Scalar) -> Scalar:
    """The weighted sum of token losses over `divisor`, in nats; with divisor = total weight, the mean per token.

    The divisor is an argument because gradient accumulation must divide by the weight of the whole window.
    """
    return -torch.where(weights > 0, logps * weights, 0.0).sum() / divisor


def bradley_terry_loss(margin: Row, p_chosen: Row, weight: Row) -> Scalar:
    """The weighted mean cross-entropy, in nats per pair, of soft preference labels under a Bradley-Terry model.

    `margin` is reward(chosen) - reward(rejected). At margin 0 the loss is ln 2 whatever the label.

    Source: Bai et al. 2022, sec. 4.1 (feedback probabilities as targets).
    """
    return weighted_mean(F.binary_cross_entropy_with_logits(margin, p_chosen, reduction="none"), weight)


def dpo_loss(pairs: PreferenceInput, *, beta: float) -> LossOutput:
    """The weighted mean DPO loss in nats per pair; soft labels mix the two hard losses.

    Source: Rafailov et al. 2023, eq. 7.
    """
    chosen, rejected = _log_ratios(pairs)
    loss = bradley_terry_loss(beta * (chosen - rejected), pairs.p_chosen, pairs.weight)
    return LossOutput(loss, _metrics(pairs, chosen, rejected, beta))


def cdpo_loss(pairs: PreferenceInput, *, beta: float, label_smoothing: float) -> LossOutput:
    """The DPO loss in nats per pair when a share `label_smoothing` (below 1/2) of the labels is thought flipped.

    Source: Mitchell 2023, "A note on DPO with noisy preferences", eq. 3.
    """
    p_chosen = pairs.p_chosen * (1 - label_smoothing) + (1 - pairs.p_chosen) * label_smoothing
    return dpo_loss(pairs._replace(p_chosen=p_chosen), beta=beta)


def ipo_loss(pairs: PreferenceInput, *, beta: float) -> LossOutput:
    """The weighted mean squared distance, in nats squared, of the log-ratio margin from +-1/(2 beta).

    A soft label is the mean over both hard ones, so the best margin is (p_chosen - 1/2) / beta. Margins are of summed
    log-probabilities, as in the paper. Source: Azar et al. 2023, eq. 17 (their tau is beta).
    """
    chosen, rejected = _log_ratios(pairs)
    margin, target = chosen - rejected, 1 / (2 * beta)
    per_pair = pairs.p_chosen * (margin - target) ** 2 + (1 - pairs.p_chosen) * (margin + target) ** 2
    return LossOutput(weighted_mean(per_pair, pairs.weight), _metrics(pairs, chosen, rejected, beta))


def hinge_loss(pairs: PreferenceInput, *, beta: float) -> LossOutput:
    """The weighted mean by which beta times the log-ratio margin falls short of 1; a number without unit.

    A soft label is the mean over both hard ones. A hard one asks for a margin of 1/beta nats and for no more.
    Source: Zhao et al. 2023 (SLiC-HF), the calibration loss with delta = 1/beta, times beta; log-ratios to the
    reference in place of log-probabilities as in Liu et al. 2023 (RSO), so its regulariser is left out.
    """
    chosen, rejected = _log_ratios(pairs)
    margin = beta * (chosen - rejected)
    per_pair = pairs.p_chosen * F.relu(1 - margin) + (1 - pairs.p_chosen) * F.relu(1 + margin)
    return LossOutput(weighted_mean(per_pair, pairs.weight), _metrics(pairs, chosen, rejected, beta))


def _log_ratios(pairs: PreferenceInput) -> tuple[Tensor, Tensor]:
    if pairs.reference_chosen is None or pairs.reference_rejected is None:
        raise ValueError("this preference loss needs reference log-probabilities: give the stage a reference")
    return pairs.policy_chosen - pairs.reference_chosen, pairs.policy_rejected - pairs.reference_rejected


def _metrics(pairs: PreferenceInput, chosen: Tensor, rejected: Tensor, beta: float) -> dict[str, Tensor]:
    margin = chosen - rejected
    decided = pairs.p_chosen != 0.5
    agrees = (margin > 0) == (pairs.p_chosen > 0.5)
    figures = {
        "rewards/chosen": beta * chosen,
        "rewards/rejected": beta * rejected,
        "rewards/margins": beta * margin,
        "logps/chosen": pairs.policy_chosen,
        "logps/rejected": pairs.policy_rejected,
    }
    metrics = {name: weighted_mean(figure, pairs.weight) for name, figure in figures.items()}
    return detached(metrics | {"rewards/accuracies": masked_mean(agrees.to(margin.dtype), decided)})


def detached(metrics: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same figures without a graph."""
    return {name: value.detach() for name, value in metrics.items()}
