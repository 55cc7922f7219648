"""What the training modules read from a batch; the data room makes such batches, and tests may make their own."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class TokenBatch(Protocol):
    """Right-padded ids and loss weights [row, token]; the summed loss is divided by `divisor`."""

    input_ids: Tensor
    weights: Tensor
    divisor: Tensor


class PairBatch(Protocol):
    """B pairs as 2B right-padded rows, the chosen ones first; B labels, weights and reference log-probabilities.

    `mask` marks reply tokens. The weighted sum over pairs is divided by `divisor`.
    """

    input_ids: Tensor
    mask: Tensor
    p_chosen: Tensor
    weight: Tensor
    reference_chosen: Tensor | None
    reference_rejected: Tensor | None
    divisor: Tensor
