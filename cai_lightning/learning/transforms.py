"""Functions of the reward: from scores [reply] and lengths in tokens [reply] to scores."""

from __future__ import annotations

import torch
from torch import Tensor


def unchanged(scores: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG001
    """The scores as they are."""
    return scores


def clipped(scores: Tensor, lengths: Tensor, *, low: float, high: float) -> Tensor:  # noqa: ARG001
    """The scores, none below `low` or above `high`."""
    return scores.clamp(low, high)


def punished(scores: Tensor, lengths: Tensor, *, below: float, factor: float) -> Tensor:  # noqa: ARG001
    """The scores, each shortfall under `below` counted `factor` times: bad replies weigh more than good ones.

    Source: the asymmetric punishment that Bai et al. 2022, sec. 6, leave to later work; our function.
    """
    return torch.where(scores < below, below + factor * (scores - below), scores)


def length_penalised(scores: Tensor, lengths: Tensor, *, free: int, per_token: float) -> Tensor:
    """The scores less `per_token` for each token of a reply beyond `free` ones. Source: Singhal et al. 2023, sec. 4."""
    return scores - per_token * (lengths - free).clamp(min=0)
