"""One score from several reward models: functions of the members' scores, each a row of them by the member's name.

Where members' scores have zeros or scales of their own, `lowest` follows the lowest of them and a mean the widest;
`centre_coef` of their training holds the zeros together.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Scores = Mapping[str, Tensor]
"""A member's name -> its scores [row]."""


def mean(scores: Scores) -> Tensor:
    """The mean over the members [row]."""
    return _table(scores).mean(0)


def lowest(scores: Scores) -> Tensor:
    """The lowest member's score of each row [row]: worst-case optimisation (Coste et al. 2023, arXiv 2310.02743)."""
    return _table(scores).amin(0)


def less_variance(scores: Scores, *, coef: float) -> Tensor:
    """The mean less `coef` times the variance over the members [row]: uncertainty-weighted optimisation.

    Source: Coste et al. 2023 (arXiv 2310.02743), with their variance, which divides by the number of members. It is in
    squared units of score, so `coef` depends on their scale; `less_deviation` does not.
    """
    table = _table(scores)
    return table.mean(0) - coef * table.var(0, correction=0)


def less_deviation(scores: Scores, *, deviations: float) -> Tensor:
    """The mean less so many standard deviations over the members [row], which divide by the number of members.

    A lower bound in units of score, in place of the variance of Coste et al. 2023.
    """
    table = _table(scores)
    return table.mean(0) - deviations * table.std(0, correction=0)


def weighted(scores: Scores, *, weights: dict[str, float]) -> Tensor:
    """The sum of `weights[name]` times the score of each member [row]: a helpful reward model and a harmless one.

    Raises ValueError unless there is one weight for each member.
    """
    if set(weights) != set(scores):
        raise ValueError(f"weights: {dict(weights)} given, but one is wanted for each of {', '.join(scores)}")
    return sum((weights[name] * row for name, row in scores.items()), torch.zeros(()))


def _table(scores: Scores) -> Tensor:
    """The scores [member, row]."""
    return torch.stack([*scores.values()])
