"""How sure an expected calibration error is: its interval, and what labels without any error would show by chance.

The error is a sum of absolute gaps between probability and truth, so noise raises it: where no bin has a gap it is
still above 0. A bootstrap of prompt clusters and replicates says how far the gaps of the bins move together. How large
an error these movements alone would make is the value by chance, and bounds are corrected for the same bias.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cai_lightning.evaluation.intervals import FEW, TAIL, Draws, Floats, draws
from cai_lightning.evaluation.ratings import Column

_SAME = 1e-12  # what rounding leaves between equal draws
NAMES = ("ece_low", "ece_high", "ece_by_chance", "ece_by_chance_high")


def calibration_error(
    p: Floats,
    right: Floats,
    members: Sequence[NDArray[np.int64]],
    columns: Sequence[Column],
    replicates: Sequence[str],
    *,
    resamples: int,
    seed: int,
) -> dict[str, float | None]:
    """`ece_low`, `ece_high`: the 95 % interval; `ece_by_chance` and `ece_by_chance_high`: mean and 97.5 % quantile.

    p: P(a is better); right: 1 where a is, 0 where b is; `members` are the rows of each bin; columns (kind and cluster)
    and replicates are each row's. All is null below ten clusters, and where no draw moves any bin.
    """
    if len(set(columns)) < FEW:
        return dict.fromkeys(NAMES)
    named = sorted(set(columns))
    seeds = {name: k for k, name in enumerate(dict.fromkeys(replicates))}
    place = {column: k for k, column in enumerate(named)}
    at = np.array([seeds[one] for one in replicates]), np.array([place[one] for one in columns])
    gaps, count = np.zeros((len(members), len(seeds), len(named))), np.zeros((len(seeds), len(named)))
    np.add.at(count, at, 1)
    for bin, rows in zip(gaps, members, strict=True):
        np.add.at(bin, (at[0][rows], at[1][rows]), right[rows] - p[rows])
    drawn = draws([kind for kind, _ in named], len(seeds), resamples=resamples, seed=seed)
    return _bounds(drawn.sums(gaps) / drawn.sums(count)[:, None], drawn, len(named))


def _bounds(gaps: Floats, drawn: Draws, clusters: int) -> dict[str, float | None]:
    """The figures from the gaps of bins, each times the bin's share of rows, of every draw (rows, bins).

    The lower bound is the point less the most that chance alone makes. Noise moves the point no farther than its own
    size (the triangle inequality), so this holds for gaps of any size, and is cautious for large ones. The upper one is
    the basic interval's (Davison and Hinkley 1997, section 5.2), or the point and the draws' spread above their mean
    where that is more: where gaps are large there is no bias to take off.
    """
    if np.abs(gaps - gaps[0]).max() < _SAME:
        return dict.fromkeys(NAMES)
    errors = np.abs(gaps).sum(-1)
    noise = np.sum(drawn.levels(gaps), 0) * drawn.stretch(errors, clusters)
    shown, chance = np.abs(gaps[0] + noise).sum(-1), np.abs(noise).sum(-1)
    (low, high), most = np.quantile(shown, [TAIL, 1 - TAIL]), float(np.quantile(chance, 1 - TAIL))
    point = float(errors[0])
    upper = max(2 * point - low, point + high - float(shown.mean()))
    bounds = (max(0.0, point - most), min(1.0, float(upper)))
    return dict(zip(NAMES, (*bounds, float(chance.mean()), most), strict=True))
