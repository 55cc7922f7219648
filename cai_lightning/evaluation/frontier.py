"""The helpfulness–harmlessness frontier: who is dominated, and how much the players dominate together.

Points are (..., N, 2), larger is better on both axes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cai_lightning.evaluation.intervals import Floats


def non_dominated(points: Floats) -> NDArray[np.bool_]:
    """Which points (..., N) no other one beats or equals on both axes and beats on one: the Pareto set."""
    mine, other = points[..., :, None, :], points[..., None, :, :]
    dominated = (other >= mine).all(-1) & (other > mine).any(-1)
    return np.asarray(~dominated.any(-1))


def probability_non_dominated(points: Floats) -> Floats:
    """The share of draws (resamples, N, 2) in which each point is in the Pareto set, (N,)."""
    return np.asarray(non_dominated(points).mean(0))


def hypervolume(points: Floats, reference: tuple[float, float]) -> Floats:
    """The area (...) between the reference point and the frontier, in the product of the axes' units.

    Points below the reference on an axis count as on it, so they add nothing.
    """
    gains = np.maximum(points - np.array(reference), 0)
    order = np.argsort(-gains[..., 0], axis=-1, kind="stable")
    width, height = (np.take_along_axis(gains[..., axis], order, -1) for axis in (0, 1))
    top = np.maximum.accumulate(height, -1)
    return np.asarray((width * np.diff(top, axis=-1, prepend=0)).sum(-1))
