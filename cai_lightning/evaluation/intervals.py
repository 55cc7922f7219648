"""Uncertainty of a figure over prompts and seeds: a two-level bootstrap, and closed forms for the edges.

Replicates (seeds) and prompt clusters are crossed: every replicate answers the same prompts. So the bootstrap
resamples each level on its own and adds the two deviations. Resampling both at once would count the noise of
single replies three times, and with three replicates its percentiles still cover far less than 95 % where
seeds matter; Student's t at Satterthwaite's degrees of freedom repairs that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
FEW = 10  # below so many clusters neither bootstrap nor t is trusted for a share


class Interval(NamedTuple):
    """Bounds of the 95 % interval, in the units of the estimate."""

    low: float
    high: float


@dataclass(frozen=True)
class Draws:
    """Resampling counts shared by all metrics and players, so that their differences are paired.

    `clusters` (resamples, C) and `replicates` (resamples, R) sum to C and R a row. Statistics made from `sums`
    have rows: the point, then the resamples of clusters, then (where R > 1) the resamples of replicates.
    """

    clusters: Floats
    replicates: Floats

    @property
    def resamples(self) -> int:
        """How often each level was resampled."""
        return len(self.clusters)

    def sums(self, table: Floats) -> Floats:
        """Weighted totals (rows, ...) of a table (..., R, C) for every draw."""
        point = table.sum((-2, -1))[..., None]
        parts = [point, table.sum(-2) @ self.clusters.T]
        if self.replicates.shape[1] > 1:
            parts.append(table.sum(-1) @ self.replicates.T)
        return np.moveaxis(np.concatenate(parts, -1), -1, 0)

    def levels(self, rows: Floats) -> tuple[Floats, Floats]:
        """Deviations from the point, (resamples, ...) each: over clusters, and over replicates (0 for one).

        The latter are scaled by √(R / (R − 1)), for a bootstrap of R values understates their variance by that.
        """
        count = self.replicates.shape[1]
        clusters = rows[1 : self.resamples + 1] - rows[0]
        if count == 1:
            return clusters, np.zeros_like(clusters)
        return clusters, (rows[self.resamples + 1 :] - rows[0]) * math.sqrt(count / (count - 1))

    def spread(self, rows: Floats, clusters: int) -> tuple[float, float]:
        """The standard error of a statistic (rows,) and Satterthwaite's degrees of freedom; 0 and infinity of none."""
        by_cluster, by_replicate = (float(level.var()) for level in self.levels(rows))
        total = by_cluster + by_replicate
        if total == 0:
            return 0.0, math.inf
        seeds, prompts = max(self.replicates.shape[1] - 1, 1), max(clusters - 1, 1)
        # divided by `total` first: tiny variances squared underflow
        shares = (by_replicate / total) ** 2 / seeds + (by_cluster / total) ** 2 / prompts
        return math.sqrt(total), 1 / shares

    def stretch(self, rows: Floats, clusters: int) -> float:
        """Student's t over the normal quantile at Satterthwaite's degrees of freedom: 1 or more."""
        error, freedom = self.spread(rows, clusters)
        return t_quantile(freedom) / NormalDist().inv_cdf(1 - TAIL) if error else 1.0

    def interval(self, rows: Floats, clusters: int) -> Interval:
        """The 95 % interval of a statistic (rows,), whose point stands first; `clusters` is how many it used."""
        spread = np.sum(self.levels(rows), 0)
        low, high = rows[0] + self.stretch(rows, clusters) * np.quantile(spread, [TAIL, 1 - TAIL])
        return Interval(float(low), float(high))

    def reflected(self, rows: Floats, clusters: int) -> Interval:
        """As `interval`, for a statistic that resampling drives to one side, as it does the largest of equal values.

        The quantiles are reflected at the point (the basic interval; Davison and Hinkley 1997, section 5.2): the draws
        lie as far beyond the point as the point does beyond the truth. The point itself may lie outside.
        """
        spread = np.sum(self.levels(rows), 0)
        low, high = rows[0] - self.stretch(rows, clusters) * np.quantile(spread, [1 - TAIL, TAIL])
        return Interval(float(low), float(high))

    def covariance(self, rows: Floats, clusters: Sequence[int]) -> Floats:
        """The (k, k) covariance of k statistics (rows, k), each axis stretched as its interval is."""
        spread = np.sum(self.levels(rows), 0)
        stretch = np.array([self.stretch(rows[:, k], count) for k, count in enumerate(clusters)])
        deviations = spread * stretch
        return np.asarray(deviations.T @ deviations / len(deviations))


def draws(strata: Sequence[str], replicates: int, *, resamples: int, seed: int) -> Draws:
    """Resampling counts for clusters, one stratum name each (drawn within strata), and for replicates."""
    generator = np.random.Generator(np.random.PCG64(seed))
    names = np.array(strata)
    clusters = np.zeros((resamples, len(names)))
    for name in sorted(set(strata)):
        columns = np.flatnonzero(names == name)
        clusters[:, columns] = _counts(generator, len(columns), resamples)
    return Draws(clusters=clusters, replicates=_counts(generator, replicates, resamples))


def _counts(generator: np.random.Generator, size: int, resamples: int) -> Floats:
    return generator.multinomial(size, np.full(size, 1 / size), size=resamples).astype(np.float64)


def widened(value: float, interval: Interval, slack: float) -> Interval:
    """The 95 % interval of a value that is also open by `slack` to either side, independently: root of squares."""
    low, high = interval
    if slack == 0:
        return interval
    return Interval(value - math.hypot(value - low, slack), value + math.hypot(high - value, slack))


def wilson(successes: float, n: int) -> Interval:
    """Wilson's 95 % score interval of a share; [0, 1] without observations. Successes may be fractional."""
    if n == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(1 - TAIL)
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    scale = 1 + z * z / n
    # exact at the ends, where rounding would leave a bound just inside
    low = 0.0 if successes == 0 else max(0.0, (centre - half) / scale)
    return Interval(low, 1.0 if successes == n else min(1.0, (centre + half) / scale))


def clustered_share(values: Floats, clusters: Sequence[str]) -> tuple[float, Interval, int]:
    """The mean over clusters of values in [0, 1], its 95 % t-interval, and the number of clusters.

    Wilson's interval on the clusters where they are few or all alike. Raises ValueError without values.
    """
    names, index = np.unique(np.array(clusters), return_inverse=True)
    if not len(names):
        raise ValueError("a mean needs at least one value, got none")
    means = np.bincount(index, weights=values) / np.bincount(index)
    mean, n = float(means.mean()), len(means)
    if n < FEW or np.ptp(means) == 0:
        return mean, wilson(mean * n, n), n
    half = t_quantile(n - 1) * float(means.std(ddof=1)) / math.sqrt(n)
    return mean, Interval(max(0.0, mean - half), min(1.0, mean + half)), n


def t_quantile(dof: float) -> float:
    """Student's t that leaves 2.5 % above it, for real degrees of freedom of at least 1.

    With t = √dof · tan(angle) the density is cos(angle)^(dof − 1), summed here on a grid to about 1e-6.
    """
    dof, angle, mass = _t_mass(dof)
    return math.sqrt(dof) * math.tan(float(np.interp(LEVEL, mass, angle)))


def t_tail(t: float, dof: float) -> float:
    """The probability of a Student's t above `t`, for real degrees of freedom of at least 1; to about 1e-6."""
    dof, angle, mass = _t_mass(dof)
    beyond = (1 - float(np.interp(math.atan(abs(t) / math.sqrt(dof)), angle, mass))) / 2
    return beyond if t >= 0 else 1 - beyond


def _t_mass(dof: float) -> tuple[float, Floats, Floats]:
    dof = min(dof, 1e4)  # beyond, the normal limit to 3e-4
    angle = np.linspace(0, math.pi / 2, 20_001)
    density = np.maximum(np.cos(angle), 0) ** (dof - 1)
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return dof, angle, mass / mass[-1]


def estimate(value: float | None, bounds: tuple[float | None, float | None], n: int) -> dict[str, Any]:
    """One figure as JSON: value, low, high (null where unavailable) and n, the clusters behind it."""
    return {"value": value, "low": bounds[0], "high": bounds[1], "n": n}
