"""Spearman's rank correlation, ties sharing the mean of their ranks."""

from __future__ import annotations

import math

import numpy as np

from cai_lightning.evaluation.intervals import Floats


def spearman(one: Floats, other: Floats) -> float:
    """Pearson's correlation of the ranks of two equally long lists, in -1..1; not a number where one is constant."""
    ranks = [mid_ranks(values) for values in (one, other)]
    x, y = (rank - rank.mean() for rank in ranks)
    size = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / size if size else math.nan


def mid_ranks(values: Floats) -> Floats:
    """Ranks from 1 upwards; equal values have the mean of the ranks that they take up."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])
