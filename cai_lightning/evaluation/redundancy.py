"""Which principles say the same: correlated log-odds, and how far one makes up for another that is taken away."""

from __future__ import annotations

from typing import Any

import numpy as np

from cai_lightning.evaluation.attribution import Views
from cai_lightning.evaluation.intervals import Floats
from cai_lightning.evaluation.pair_means import Places


def redundancy(views: Views, at: Places) -> dict[str, Any] | None:
    """{"matrix", "low", "high"}: correlations of two principles' log-odds over pairs, and "offset", the same of shares.

    Offset [i, j]: how much of the change in labels that leaving out i makes, in absolute P(a), is undone where j gets
    its voice: 1 where j says what i says, below 0 where j is farther from i than the rest is. Null without log-odds.
    """
    if views.logits is None or views.swapped is None:
        return None
    among = np.ones(len(views.rows))
    clusters = at.count(among)
    same = at.matrix(correlations(views.logits, at), clusters)
    left_out = np.abs(views.whole[:, None] - views.without)
    given_on = np.abs(views.whole[:, None, None] - views.swapped)
    count = views.logits.shape[1]
    changed = at.means(left_out, among)[:, :, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        undone = 1 - at.means(given_on.reshape(-1, count * count), among).reshape(-1, count, count) / changed
    return {"matrix": same["value"], "low": same["low"], "high": same["high"], "offset": at.matrix(undone, clusters)}


def correlations(logits: Floats, at: Places) -> Floats:
    """Pearson's correlations (rows, n, n) of the columns of logits (pairs, n), for every resample."""
    centred = logits - logits.mean(axis=0)
    count = centred.shape[1]
    products = (centred[:, :, None] * centred[:, None, :]).reshape(-1, count * count)
    moments = at.means(np.concatenate([centred, products], axis=1), np.ones(len(centred)))
    mean, product = moments[:, :count], moments[:, count:].reshape(-1, count, count)
    covariance = product - mean[:, :, None] * mean[:, None, :]
    spread = np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(covariance / (spread[:, :, None] * spread[:, None, :]))
