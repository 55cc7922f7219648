"""How far a feedback model's probabilities can be trusted, against labels that are known to be right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cai_lightning.evaluation.intervals import Floats, wilson


def calibrate(
    p_a: Floats,
    truth: Sequence[int | None],
    logit_ab: Sequence[float | None],
    logit_ba: Sequence[float | None],
    *,
    bins: int,
) -> dict[str, Any]:
    """Accuracy with bounds, ECE, Brier score, position bias (nats), flip rate, n and reliability bins.

    p_a: P(a is better). truth: 1 if a is better, 0 if b, null for a tie; ties count in no figure but those of
    position. The logits are log-odds of a in either order. Figures without data are null.
    """
    known = np.array([value is not None for value in truth], dtype=bool)
    p = np.asarray(p_a, dtype=np.float64)[known]
    right = np.array([value for value in truth if value is not None], dtype=np.float64)
    result: dict[str, Any] = {"n": len(p), **position(logit_ab, logit_ba)}
    if not len(p):
        return result | dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high", "ece", "brier")) | {"bins": []}
    hits = float(np.where(p == 0.5, 0.5, (p > 0.5) == (right == 1)).sum())
    low, high = wilson(hits, len(p))
    diagram = reliability(p, right, bins=bins)
    gaps = [abs(entry["share"] - entry["p"]) * entry["n"] for entry in diagram]
    return result | {
        "accuracy": hits / len(p),
        "accuracy_low": low,
        "accuracy_high": high,
        "ece": float(sum(gaps) / len(p)),
        "brier": float(np.mean((p - right) ** 2)),
        "bins": diagram,
    }


def reliability(p: Floats, right: Floats, *, bins: int) -> list[dict[str, Any]]:
    """Equal-mass bins in order of p: mean p, share right with Wilson bounds, n. Fewer values make fewer bins."""
    diagram = []
    for members in bin_members(p, bins=bins):
        low, high = wilson(float(right[members].sum()), len(members))
        mean, share = float(p[members].mean()), float(right[members].mean())
        diagram.append({"p": mean, "share": share, "low": low, "high": high, "n": len(members)})
    return diagram


def bin_members(p: Floats, *, bins: int) -> list[NDArray[np.int64]]:
    """The rows of each equal-mass bin in order of p; fewer values make fewer bins."""
    return np.array_split(np.argsort(p, kind="stable"), min(bins, len(p))) if len(p) else []


def position(logit_ab: Sequence[float | None], logit_ba: Sequence[float | None]) -> dict[str, float | None]:
    """Position bias: half the mean log-odds (nats) that a gains by standing first; and how often order decides.

    Pairs that were asked in one order only are left out.
    """
    both = [(x, y) for x, y in zip(logit_ab, logit_ba, strict=True) if x is not None and y is not None]
    if not both:
        return {"position_bias": None, "flip_rate": None}
    first, second = np.array(both).T
    flips = np.sign(first) != np.sign(second)
    return {"position_bias": float(np.mean(first - second) / 2), "flip_rate": float(flips.mean())}
