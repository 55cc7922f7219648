"""Two judges of the same pairs: by how much one is right more often, with an interval over clusters and replicates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cai_lightning.evaluation.intervals import FEW, Floats, draws, estimate


def difference(ours: Floats, theirs: Floats, clusters: Sequence[str], *, resamples: int, seed: int) -> dict[str, Any]:
    """The mean over clusters of `ours` (replicates, pairs) minus `theirs` (pairs,), as JSON, and n, the clusters.

    The 95 % interval resamples clusters and, where there are several, replicates; below ten clusters there is none.
    Raises ValueError without pairs.
    """
    names, index = np.unique(np.array(clusters), return_inverse=True)
    if not len(names):
        raise ValueError("a difference needs at least one pair, got none")
    sizes = np.bincount(index)
    table = np.array([np.bincount(index, weights=row - theirs) / sizes for row in ours])
    drawn = draws(["pairs"] * len(names), len(ours), resamples=resamples, seed=seed)
    rows = drawn.sums(table) / table.size
    bounds = (None, None) if len(names) < FEW else drawn.interval(rows, len(names))
    return estimate(float(rows[0]), bounds, len(names))
