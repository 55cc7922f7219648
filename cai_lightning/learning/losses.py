"""Losses as pure functions of log-probabilities, rewards and values; each states what it divides by.

Every preference loss takes one `PreferenceInput` and soft labels, so a new loss is one function. Nothing in this file
knows a model, a tokenizer or Lightning. Log-probabilities are sums over response tokens, in nats. Losses that need no
reference are in `reference_free`, those of replies without a partner in `unpaired_losses`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

Loss = TypeVar("Loss", bound=Callable[..., object])
Row = Float[Tensor, " row"]
Lengths = Int[Tensor, " row"]
Numbers = Int[Tensor, " row"]
Scalar = Float[Tensor, ""]
Values = Float[Tensor, "*shape"]
Where = Bool[Tensor, "*shape"]


class LossOutput(NamedTuple):
    """A loss with its graph, and figures to log without one."""

    loss: Scalar
    metrics: dict[str, Tensor]


class PreferenceInput(NamedTuple):
    """What a preference loss may look at: summed log-probabilities in nats, response lengths in tokens, labels.

    `p_chosen` is the label's probability that `chosen` is better; `weight` scales a pair, and what stands beside the
    weight 0 is not read. `margin` is by how many nats the likelier reply is asked to be better: DPO and what is made of
    it read it, other losses have a margin of their own or none. `source` is the number of the label's source among
    `sources`. The reference is None for losses that need none.
    """

    policy_chosen: Row
    policy_rejected: Row
    lengths_chosen: Lengths
    lengths_rejected: Lengths
    reference_chosen: Row | None
    reference_rejected: Row | None
    p_chosen: Row
    weight: Row
    margin: Row
    source: Numbers
    sources: tuple[str, ...]


def reference_free(loss: Loss) -> Loss:
    """The loss, marked as one that looks at the policy alone."""
    loss.reference_free = True  # type: ignore[attr-defined]
    return loss


def needs_reference(loss: Callable[..., object]) -> bool:
    """Whether a loss reads reference log-probabilities, also one whose numbers are already given."""
    while isinstance(loss, partial):
        loss = loss.func
    return not getattr(loss, "reference_free", False)


def masked_mean(x: Values, mask: Where) -> Scalar:
    """The mean of `x` where the mask is set; what lies elsewhere, NaN included, never enters value or gradient."""
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp(min=1)


def weighted_mean(x: Row, weight: Row) -> Scalar:
    """The weighted mean of `x`; what stands beside the weight 0, NaN included, is not read."""
    return torch.where(weight > 0, x * weight, 0.0).sum() / weight.sum()


def weighted_nll(logps: Values, weights: Values, divisor: Scalar) -> Scalar:
    """The weighted sum of token losses over `divisor`, in nats; with divisor = total weight, the mean per token.

    The divisor is an argument because gradient accumulation must divide by the weight of the whole window.
    """
    return -torch.where(weights > 0, logps * weights, 0.0).sum() / divisor


def bradley_terry_loss(difference: Row, p_chosen: Row, weight: Row, *, margin: Row) -> Scalar:
    """The weighted mean cross-entropy, in nats per pair, of soft preference labels under a Bradley-Terry model.

    `difference` is reward(chosen) - reward(rejected). At difference and margin 0 the loss is ln 2 whatever the label.
    The likelier reply is asked to be better by `margin` nats: a label of p = 1 is served the better, the more the
    difference exceeds it; one of 1/2 < p < 1 best by the difference margin + ln(p / (1 - p)), at the cost of the
    label's entropy; one of 1/2 has no likelier reply, and its margin is not read.

    Source: Bai et al. 2022, sec. 4.1 (feedback probabilities as targets); margins: Touvron et al. 2023 (Llama 2),
    eq. 2.
    """
    asked = margin * (p_chosen - 0.5).sign()
    return weighted_mean(F.binary_cross_entropy_with_logits(difference - asked, p_chosen, reduction="none"), weight)


def dpo_loss(pairs: PreferenceInput, *, beta: float) -> LossOutput:
    """The weighted mean DPO loss in nats per pair; soft labels mix the two hard losses.

    A label's margin is the offset that beta times the log-ratio margin has to exceed. Source: Rafailov et al. 2023,
    eq. 7; offsets: Amini et al. 2024 (ODPO), whose offset is our margin as it stands.
    """
    chosen, rejected = log_ratios(pairs)
    loss = bradley_terry_loss(beta * (chosen - rejected), pairs.p_chosen, pairs.weight, margin=pairs.margin)
    return LossOutput(loss, preference_metrics(pairs, chosen, rejected, beta))


def cdpo_loss(pairs: PreferenceInput, *, beta: float, label_smoothing: float) -> LossOutput:
    """The DPO loss in nats per pair when a share `label_smoothing` of the labels is thought flipped.

    Raises ValueError unless 0 <= label_smoothing < 1/2: beyond it the loss prefers the rejected reply.
    Source: Mitchell 2023, "A note on DPO with noisy preferences & relationship to IPO" (v1.1), eq. 3.
    """
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing: is {label_smoothing}; it must be a share below 0.5, as of flipped labels")
    p_chosen = pairs.p_chosen * (1 - label_smoothing) + (1 - pairs.p_chosen) * label_smoothing
    return dpo_loss(pairs._replace(p_chosen=p_chosen), beta=beta)


def robust_dpo_loss(pairs: PreferenceInput, *, beta: float, flip_rate: float) -> LossOutput:
    """The DPO loss in nats per pair whose mean over flips is DPO's own, where a share `flip_rate` of labels is flipped.

    A label of p counts as one of (p - flip_rate) / (1 - 2 flip_rate): a certain one counts more than once, and its loss
    has no lower end. A label takes its margin along when it is flipped. Raises ValueError unless 0 <= flip_rate < 1/2.
    Source: Chowdhury et al. 2024 (arXiv 2403.00409), the unbiased loss of rDPO.
    """
    if not 0 <= flip_rate < 0.5:
        raise ValueError(f"flip_rate: is {flip_rate}; it must be a share below 0.5, where labels still say something")
    seen = dpo_loss(pairs, beta=beta)
    flipped = dpo_loss(pairs._replace(p_chosen=1 - pairs.p_chosen), beta=beta)
    loss = ((1 - flip_rate) * seen.loss - flip_rate * flipped.loss) / (1 - 2 * flip_rate)
    return LossOutput(loss, seen.metrics)


def ipo_loss(pairs: PreferenceInput, *, beta: float) -> LossOutput:
    """The weighted mean squared distance, in nats squared, of the log-ratio margin from +-1/(2 beta).

    A soft label is the mean over both hard ones, so the best margin is (p_chosen - 1/2) / beta. Margins are of summed
    log-probabilities, as in the paper. Source: Azar et al. 2023 (arXiv 2310.12036), eq. 17 (their tau is beta).
    """
    chosen, rejected = log_ratios(pairs)
    margin, target = chosen - rejected, 1 / (2 * beta)
    per_pair = pairs.p_chosen * (margin - target) ** 2 + (1 - pairs.p_chosen) * (margin + target) ** 2
    return LossOutput(weighted_mean(per_pair, pairs.weight), preference_metrics(pairs, chosen, rejected, beta))


def hinge_loss(pairs: PreferenceInput, *, beta: float) -> LossOutput:
    """The weighted mean by which beta times the log-ratio margin falls short of 1; a number without unit.

    A soft label is the mean over both hard ones. A hard one asks for a margin of 1/beta nats and for no more.
    Source: Zhao et al. 2023 (SLiC-HF), the calibration loss with delta = 1/beta, times beta; log-ratios to the
    reference in place of log-probabilities as in Liu et al. 2023 (RSO), so its regulariser is left out.
    """
    chosen, rejected = log_ratios(pairs)
    margin = beta * (chosen - rejected)
    per_pair = pairs.p_chosen * F.relu(1 - margin) + (1 - pairs.p_chosen) * F.relu(1 + margin)
    return LossOutput(weighted_mean(per_pair, pairs.weight), preference_metrics(pairs, chosen, rejected, beta))


def log_ratios(pairs: PreferenceInput) -> tuple[Row, Row]:
    """The log-ratios, in nats, of policy to reference of the chosen and of the rejected replies; 0 at weight 0.

    Raises ValueError where there is no reference.
    """
    if pairs.reference_chosen is None or pairs.reference_rejected is None:
        raise ValueError("this preference loss needs reference log-probabilities: give the stage a reference")
    chosen, rejected = pairs.policy_chosen - pairs.reference_chosen, pairs.policy_rejected - pairs.reference_rejected
    # Here, and not only in the mean: a gradient of 0 times NaN would be NaN.
    return torch.where(pairs.weight > 0, chosen, 0.0), torch.where(pairs.weight > 0, rejected, 0.0)


def preference_metrics(pairs: PreferenceInput, chosen: Row, rejected: Row, scale: float) -> dict[str, Tensor]:
    """The common figures of a preference loss, without a graph; rewards are `scale` times `chosen` and `rejected`."""
    figures = {
        "rewards/chosen": scale * chosen,
        "rewards/rejected": scale * rejected,
        "rewards/margins": scale * (chosen - rejected),
        "logps/chosen": pairs.policy_chosen,
        "logps/rejected": pairs.policy_rejected,
    }
    metrics = {name: weighted_mean(figure, pairs.weight) for name, figure in figures.items()}
    agreed = accuracies(chosen - rejected, pairs.p_chosen, pairs.weight, pairs.source, pairs.sources)
    return detached(metrics | agreed)


@torch.no_grad()
def accuracies(
    difference: Row, p_chosen: Row, weight: Row, source: Numbers, sources: Sequence[str]
) -> dict[str, Tensor]:
    """The share of decided labels that the sign of `difference` agrees with, and that of each source of several.

    The latter are named `rewards/accuracies/<source>`; NaN where the batch has no decided label of it.
    """
    decided, of = _decided(p_chosen, weight, source, sources)
    agrees = (difference > 0) == (p_chosen > 0.5)
    shares = (of & agrees[:, None]).sum(0) / of.sum(0)
    whole = masked_mean(agrees.to(difference.dtype), decided)
    return {"rewards/accuracies": whole, **_by_source(sources, shares)}


@torch.no_grad()
def decided_labels(p_chosen: Row, weight: Row, source: Numbers, sources: Sequence[str]) -> dict[str, Tensor]:
    """The number of labels behind each figure of `accuracies`."""
    decided, of = _decided(p_chosen, weight, source, sources)
    return {"rewards/accuracies": decided.sum(), **_by_source(sources, of.sum(0))}


def _decided(p_chosen: Row, weight: Row, source: Numbers, sources: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Which labels name a better reply, and of which source these are [label, source]."""
    decided = (p_chosen != 0.5) & (weight > 0)
    return decided, (source[:, None] == torch.arange(len(sources), device=source.device)) & decided[:, None]


def _by_source(sources: Sequence[str], values: Tensor) -> dict[str, Tensor]:
    if len(sources) < 2:
        return {}
    return {f"rewards/accuracies/{name}": value for name, value in zip(sources, values, strict=True)}


def detached(metrics: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same figures without a graph."""
    return {name: value.detach() for name, value in metrics.items()}
