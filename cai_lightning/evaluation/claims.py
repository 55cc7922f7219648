"""Claims and verdicts: a contrast of arms that was stated beforehand, its interval, and a word for what came out.

The words: *reproduced* (the difference has the sign that was claimed), *equivalent* (it lies within a margin that was
stated beforehand), *contradicted*, *inconclusive*. Several claims are corrected together by Holm's method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cai_lightning.evaluation.arms import Cell, Measured
from cai_lightning.evaluation.intervals import TAIL, Draws, Floats, t_quantile, t_tail, widened

LEVEL = 2 * TAIL
SIGNS = {"more": 1, "less": -1, "equal": 0}


@dataclass(frozen=True)
class Claim:
    """One sentence, and the weighted sum of arms under one metric that it is about.

    `expected`: the sum is "more" or "less" than `than` (0 where null), or "equal" to it within `margin`. `ingredient`
    is what of the micro-world should make it so, and `without` the same sum among arms that lack it, where it should
    vanish.
    """

    says: str
    source: str | None
    metric: str
    of: Mapping[str, float]
    expected: str
    margin: float
    than: float | None = None
    ingredient: str | None = None
    without: Mapping[str, float] | None = None


class Contrast(NamedTuple):
    """A weighted sum of arms: value, 95 % interval (null without spread), n clusters, standard error and freedom."""

    value: float
    low: float | None
    high: float | None
    n: int
    error: float
    freedom: float


def contrast(
    cells: Mapping[str, Cell], weights: Mapping[str, float], drawn: Draws, than: float | None = None
) -> Contrast:
    """The weighted sum of the arms' figures, less `than`, with its paired 95 % interval; KeyError for an unknown arm.

    Elo of ties alone adds the error that so many ties leave open, which no draw shows. Where no draw differs, for all
    prompts of every arm are alike, shares have Agresti and Caffo's error (2000).
    """
    rows: Floats = np.sum([weight * cells[arm].rows for arm, weight in weights.items()], axis=0) - (than or 0.0)
    n = min(cells[arm].n for arm in weights)
    error, freedom = drawn.spread(rows, n)
    quantile = t_quantile(max(n - 1, 1))
    if error > 0:
        slack = math.sqrt(sum((weight * (cells[arm].slack or 0.0)) ** 2 for arm, weight in weights.items()))
        bounds = widened(float(rows[0]), drawn.interval(rows, n), slack)
        return Contrast(float(rows[0]), *bounds, n, math.hypot(error, slack / quantile), freedom)
    freedom = float(max(n - 1, 1))
    error = math.sqrt(sum((weight * _unseen(cells[arm], quantile)) ** 2 for arm, weight in weights.items()))
    if not math.isfinite(error) or error == 0:
        return Contrast(float(rows[0]), None, None, n, 0.0, math.inf)
    half = quantile * error
    return Contrast(float(rows[0]), float(rows[0]) - half, float(rows[0]) + half, n, error, freedom)


def _unseen(cell: Cell, quantile: float) -> float:
    """The standard error of an arm that no draw shows; not finite where nothing is known of it."""
    if cell.share:
        return math.sqrt((cell.n + 1) / (cell.n + 2) ** 3)
    return math.inf if cell.slack is None else cell.slack / quantile


def even(claim: Claim, measured: Measured) -> bool:
    """Whether the claim is about arms none of whose comparisons named a winner, the anchor of the Elo aside."""
    cells = [measured.cells.get(claim.metric, {}).get(arm) for arm in claim.of]
    judged = [cell for cell in cells if cell is not None and cell.slack != 0]
    return bool(judged) and all(cell.figure.get("tied") for cell in judged)


def p_value(found: Contrast, expected: str, margin: float) -> float:
    """The p of a claim: two-sided against 0, or for "equal" the larger of two one-sided tests against the margin."""
    if found.error == 0:
        return 1.0
    if expected == "equal":
        return t_tail((margin - abs(found.value)) / found.error, found.freedom)
    return min(1.0, 2 * t_tail(abs(found.value) / found.error, found.freedom))


def holm(values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given."""
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted


def verdict(found: Contrast, expected: str, margin: float, p: float) -> str:
    """The word for a contrast whose adjusted p is `p`."""
    within = found.low is not None and found.high is not None and -margin <= found.low and found.high <= margin
    if expected == "equal":
        beyond = found.low is not None and found.high is not None and (found.low > margin or found.high < -margin)
        return "equivalent" if p <= LEVEL else "contradicted" if beyond else "inconclusive"
    if p <= LEVEL:
        return "reproduced" if found.value * SIGNS[expected] > 0 else "contradicted"
    return "equivalent" if margin > 0 and within else "inconclusive"


def judge(claims: Sequence[Claim], measured: Measured) -> list[dict[str, Any]]:
    """What came out of each claim, as JSON; claims about arms that were not measured have no figure and no verdict."""
    found = [_contrast(claim.of, claim, measured) for claim in claims]
    tested = [place for place, one in enumerate(found) if one is not None]
    single = {place: _p(claims[place], found[place]) for place in tested}
    adjusted = dict(zip(tested, holm([single[place] for place in tested]), strict=True))
    return [
        _judged(claim, one, single.get(place), adjusted.get(place), measured)
        for place, (claim, one) in enumerate(zip(claims, found, strict=True))
    ]


def _contrast(weights: Mapping[str, float], claim: Claim, measured: Measured) -> Contrast | None:
    cells = measured.cells.get(claim.metric, {})
    known = set(weights) <= cells.keys()
    return contrast(cells, weights, measured.drawn, claim.than) if known else None


def _p(claim: Claim, found: Contrast | None) -> float:
    assert found is not None
    return p_value(found, claim.expected, claim.margin)


def _judged(
    claim: Claim, found: Contrast | None, p: float | None, adjusted: float | None, measured: Measured
) -> dict[str, Any]:
    word = None if found is None or adjusted is None else verdict(found, claim.expected, claim.margin, adjusted)
    control = None if claim.without is None else _contrast(claim.without, claim, measured)
    gone = None if found is None or control is None else vanishes(claim, control, measured)
    return {
        "says": claim.says,
        "source": claim.source,
        "metric": claim.metric,
        "weights": dict(claim.of),
        "expected": claim.expected,
        "margin": claim.margin,
        "than": claim.than,
        **_figure(found),
        "p": p,
        "p_holm": adjusted,
        "verdict": word,
        "ingredient": claim.ingredient,
        "control": None if claim.without is None else {"weights": dict(claim.without), **_figure(control)},
        "vanishes": gone,
        "words": words(claim, word, gone, measured),
    }


def vanishes(claim: Claim, control: Contrast, measured: Measured) -> bool | None:
    """Whether the claimed difference is gone without its ingredient; null where the data do not say.

    Gone: the control does not show it, and the difference between claim and control is there. Not gone: the control
    shows it too.
    """
    sign = SIGNS[claim.expected]
    if sign == 0 or claim.without is None:
        return None
    if p_value(control, claim.expected, claim.margin) <= LEVEL and control.value * sign > 0:
        return False
    weights = {arm: claim.of.get(arm, 0) - claim.without.get(arm, 0) for arm in {**claim.of, **claim.without}}
    between = contrast(measured.cells[claim.metric], weights, measured.drawn)
    return True if p_value(between, claim.expected, 0.0) <= LEVEL and between.value * sign > 0 else None


def words(claim: Claim, word: str | None, gone: bool | None, measured: Measured) -> str:
    """One line on what came out."""
    if word is None:
        missing = [arm for arm in claim.of if arm not in measured.cells.get(claim.metric, {})]
        return f"not measured: no {claim.metric} of {', '.join(missing)}"
    if even(claim, measured):
        return f"{word}, of ties alone: no comparison named a winner"
    if word != "reproduced" or claim.ingredient is None:
        return word
    by = {True: f"by: {claim.ingredient}", False: f"also without: {claim.ingredient}"}
    return (
        f"reproduced in the micro-world, {by[gone]}"
        if gone is not None
        else f"reproduced; open whether by: {claim.ingredient}"
    )


def _figure(found: Contrast | None) -> dict[str, Any]:
    if found is None:
        return {"value": None, "low": None, "high": None, "n": 0}
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
