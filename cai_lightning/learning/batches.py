"""What the training modules read from a batch; the data room makes such batches, and tests may make their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from cai_lightning.models.packing import Packed


class TokenBatch(Protocol):
    """Packed texts, the places of the tokens that are learned and their weights; `divisor` divides the summed loss."""

    packed: Packed
    targets: Tensor
    weights: Tensor
    divisor: Tensor


class PairBatch(Protocol):
    """B pairs packed, branch 2i the chosen and 2i + 1 the rejected reply; labels, weights, reference log-probabilities.

    `margin` is in nats, `source` the number of a label's source. The weighted sum over pairs is divided by `divisor`.
    """

    packed: Packed
    p_chosen: Tensor
    weight: Tensor
    reference_chosen: Tensor | None
    reference_rejected: Tensor | None
    margin: Tensor
    source: Tensor
    divisor: Tensor


class Mismatched(Protocol):
    """Prompts before other rows' replies, a branch each; what does not `count` is read and left out."""

    packed: Packed
    counts: bool


class UnpairedBatch(Protocol):
    """B texts packed, a branch each; P(desirable), weights. The weighted sum over texts is divided by `divisor`.

    `mismatched` are those of all of this process's batches of an optimizer step, in the first of them; None in the
    others.
    """

    packed: Packed
    p_desirable: Tensor
    weight: Tensor
    divisor: Tensor
    mismatched: Sequence[Mismatched] | None
