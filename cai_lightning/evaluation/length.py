"""Win rates at equal length: what is left of a player's wins when its replies are no longer than its opponent's.

logit P(win) = α + β · tanh(Δ / sd), where Δ is how many words the player's reply has more and sd its spread; the win
rate at equal length is σ(α) (Dubois et al. 2024, 2404.04475; of their terms the one of length). Verdicts are asked in
both orders, or see none, so there is no term of order. A tie is half a win.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cai_lightning.evaluation.intervals import FEW, Draws, Floats, estimate
from cai_lightning.evaluation.metrics import rate

_STEPS, _LONGEST, _CLOSE = 200, 2.0, 1e-11


class Matches(NamedTuple):
    """Verdicts of a player against one opponent, (n,) each: score 1, 0.5 or 0, words more, replicate and cluster."""

    scores: Floats
    longer: Floats
    replicates: NDArray[np.int64]
    clusters: NDArray[np.int64]


def length_controlled(matches: Matches, drawn: Draws) -> dict[str, Any]:
    """The win rate as it is and at equal length, their difference, and what length is worth, as JSON.

    `slope` is β in nats, `words` the mean of Δ and `sd` its standard deviation. Where no finite β exists, `controlled`
    has no value and `why` says why. `beyond`: all replies are longer than the opponent's, or all shorter, so that equal
    length lies outside the data. Intervals resample clusters and replicates, β and σ(α) linearised; below ten clusters
    there are none but of `raw`.
    """
    shape = drawn.replicates.shape[1], drawn.clusters.shape[1]
    total, count = (_table(matches, values, shape) for values in (matches.scores, np.ones_like(matches.scores)))
    raw, n = rate(total, count, drawn), int((count > 0).any(0).sum())
    sd = float(matches.longer.std())
    why = _unfit(matches)
    found = {
        "raw": raw,
        "controlled": estimate(None, (None, None), n),
        "difference": estimate(None, (None, None), n),
        "slope": estimate(None, (None, None), n),
        "words": float(matches.longer.mean()),
        "sd": sd,
        "beyond": bool(np.all(matches.longer > 0) or np.all(matches.longer < 0)),
        "why": why,
    }
    if why is not None or sd == 0:
        return found if why is not None else found | {"controlled": raw}
    design = np.stack([np.ones_like(matches.longer), np.tanh(matches.longer / sd)], -1)
    theta, influence = logit(design, matches.scores)
    rows = theta + drawn.sums(np.stack([_table(matches, column, shape) for column in influence.T]))
    equal = sigmoid(rows[:, 0])
    difference = equal - drawn.sums(total) / drawn.sums(count)
    low, high = (float(sigmoid(np.array(bound))) for bound in drawn.interval(rows[:, 0], n))
    bounded = n >= FEW
    return found | {
        "controlled": estimate(float(equal[0]), (low, high) if bounded else (None, None), n),
        "difference": _figure(difference, drawn, n),
        "slope": _figure(rows[:, 1], drawn, n),
    }


def logit(design: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """The coefficients (k,) in nats of a logistic regression of scores (n,) on a design (n, k), and influences (n, k).

    An influence is by how much the coefficients move, to first order, when a row counts once more; summed by cluster,
    their squares are the clustered sandwich. Raises ValueError where there is no finite maximum.
    """
    theta = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        share = sigmoid(design @ theta)
        hessian = (design * (share * (1 - share))[:, None]).T @ design
        try:
            step = np.linalg.solve(hessian, design.T @ (scores - share))
        except np.linalg.LinAlgError:
            break
        theta += np.clip(step, -_LONGEST, _LONGEST)
        if np.abs(step).max() < _CLOSE:
            influence = np.asarray(np.linalg.solve(hessian, (design * (scores - share)[:, None]).T).T, np.float64)
            return theta, influence
    raise ValueError(
        "logistic regression has no finite maximum: its columns tell wins from losses, or depend on another"
    )


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray((1 + np.tanh(logits / 2)) / 2)


def _unfit(matches: Matches) -> str | None:
    """Why the regression has no finite maximum; null where it has one. A tie counts as won and as lost."""
    won, lost = matches.longer[matches.scores > 0], matches.longer[matches.scores < 1]
    if not len(won) or not len(lost):
        return "all wins" if len(won) else "all losses"
    if np.ptp(matches.longer) == 0:
        return "all replies differ by the same number of words" if matches.longer.any() else None
    apart = won.min() >= lost.max() or won.max() <= lost.min()
    return "length alone tells wins from losses" if apart else None


def _table(matches: Matches, values: Floats, shape: tuple[int, int]) -> Floats:
    table = np.zeros(shape)
    np.add.at(table, (matches.replicates, matches.clusters), values)
    return table


def _figure(rows: Floats, drawn: Draws, n: int) -> dict[str, Any]:
    return estimate(float(rows[0]), drawn.interval(rows, n) if n >= FEW else (None, None), n)
