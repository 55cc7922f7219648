"""Several statistics at once: bands that hold all of them together, and where a curve may have its peak.

The largest of the studentised deviations of all statistics is resampled (max-t; Westfall and Young 1993), so
that a statement about the largest of many is as sure as one about a single figure.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np

from cai_lightning.evaluation.intervals import LEVEL, Draws, Floats


class Peak(NamedTuple):
    """Where a curve is highest, by index, and the points that may be its true peak with 95 % confidence."""

    at: int
    among: tuple[int, ...]


def band(rows: Floats, drawn: Draws, clusters: int) -> tuple[Floats, Floats]:
    """Lower and upper bounds (k,) of k statistics (rows, k) that hold all at once in 95 % of samples.

    `clusters` is how many the statistics used. One that no draw moves has a band of no width.
    """
    deviations = np.sum(drawn.levels(rows), 0)
    errors = deviations.std(0)
    moving = errors > 0
    largest = np.abs(deviations[:, moving] / errors[moving]).max(1, initial=0.0)
    stretch = np.array([drawn.stretch(rows[:, k], clusters) for k in range(rows.shape[1])])
    half = float(np.quantile(largest, LEVEL)) * errors * stretch
    return rows[0] - half, rows[0] + half


def peak(rows: Floats, drawn: Draws, clusters: int) -> Peak:
    """The highest of k points (rows, k) of a curve, and all that are not surely lower than another one.

    The differences of all pairs are held in one band (Hsu 1984: comparisons with the best), so the true peak is among
    them in at least 95 % of samples.
    """
    count = rows.shape[1]
    pairs = list(combinations(range(count), 2))
    if not pairs:
        return Peak(0, (0,))
    low, high = band(np.stack([rows[:, i] - rows[:, j] for i, j in pairs], -1), drawn, clusters)
    lower = {j for (_, j), bound in zip(pairs, low, strict=True) if bound > 0}
    lower |= {i for (i, _), bound in zip(pairs, high, strict=True) if bound < 0}
    return Peak(int(rows[0].argmax()), tuple(k for k in range(count) if k not in lower))
