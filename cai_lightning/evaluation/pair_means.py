"""Means over pairs of replies with 95 % intervals: many figures at once, all on the same resamples, so all are paired.

Prompts may differ from seed to seed. What a seed's own prompts have done is then counted among prompts and among seeds,
so over several seeds intervals are rather too wide than too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cai_lightning.evaluation.intervals import FEW, Draws, Floats, draws, estimate

Ints: TypeAlias = NDArray[np.int64]
Matrix = dict[str, list[list[float | None]]]


@dataclass(frozen=True)
class Places:
    """Which replicate and which prompt cluster each pair belongs to, as indices, and the resamples of both."""

    replicates: Ints
    clusters: Ints
    drawn: Draws

    def means(self, values: Floats, among: Floats) -> Floats:
        """(rows, m): means of values (pairs, m) over the pairs that `among` (pairs,) marks with 1, for every resample.

        The first row is the point, as in `Draws`; a resample without any such pair repeats it. Without pairs at all
        everything is not a number.
        """
        totals = self.drawn.sums(self._table(values * among[:, None]))
        counts = self.drawn.sums(self._table(among[:, None]))
        with np.errstate(invalid="ignore", divide="ignore"):
            rows = totals / counts
        return np.where(counts > 0, rows, rows[0])

    def count(self, among: Floats) -> int:
        """The number of prompt clusters with a pair that `among` marks."""
        return len(np.unique(self.clusters[among > 0]))

    def figures(self, rows: Floats, clusters: int) -> list[dict[str, Any]]:
        """A figure {value, low, high, n} for each column of rows; no interval below ten clusters."""
        return [self._figure(rows[:, column], clusters) for column in range(rows.shape[1])]

    def matrix(self, rows: Floats, clusters: int) -> Matrix:
        """The values, lows and highs of statistics (rows, p, q) as three matrices; null where unavailable."""
        _, height, width = rows.shape
        found = self.figures(rows.reshape(len(rows), -1), clusters)
        return {
            end: [[found[i * width + j][end] for j in range(width)] for i in range(height)]
            for end in ("value", "low", "high")
        }

    def _figure(self, rows: Floats, clusters: int) -> dict[str, Any]:
        if not math.isfinite(rows[0]):
            return estimate(None, (None, None), clusters)
        # a resample in which a ratio has no denominator says nothing, and so leaves the point where it is
        known = np.where(np.isfinite(rows), rows, rows[0])
        bounds = (None, None) if clusters < FEW else self.drawn.interval(known, clusters)
        return estimate(float(rows[0]), bounds, clusters)

    def _table(self, values: Floats) -> Floats:
        replicates, clusters = self.drawn.replicates.shape[1], self.drawn.clusters.shape[1]
        table = np.zeros((replicates * clusters, values.shape[1]))
        np.add.at(table, self.replicates * clusters + self.clusters, values)
        return np.moveaxis(table.reshape(replicates, clusters, -1), -1, 0)


def places(replicates: Sequence[Any], clusters: Sequence[str], *, resamples: int, seed: int) -> Places:
    """The places of pairs, one replicate and one cluster name each."""
    seeds, replicate = np.unique(np.array(list(map(str, replicates))), return_inverse=True)
    names, cluster = np.unique(np.array(clusters), return_inverse=True)
    drawn = draws(["pairs"] * len(names), len(seeds), resamples=resamples, seed=seed)
    return Places(replicate.astype(np.int64), cluster.astype(np.int64), drawn)
