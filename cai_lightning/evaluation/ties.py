"""What a tie counts for: half a win to each side, or, in Davidson's model, an outcome of its own.

With d = θ_i − θ_j in nats, the chances that i wins, that j wins and that they tie are as e^(d/2), e^(−d/2) and ν
(Davidson 1970, "On extending the Bradley-Terry model to accommodate ties in paired comparison experiments", Journal of
the American Statistical Association 65, 317-328). So d is the log-odds of a win against a loss, which half-wins draw
towards 0, and players of equal strength tie in ν / (2 + ν) of their verdicts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cai_lightning.evaluation.intervals import Floats
from cai_lightning.evaluation.ratings import strengths

_STEPS, _LONGEST, _CLOSE = 200, 1.0, 1e-11


class Tables(NamedTuple):
    """A batch of tables (rows, P): points of the first of each pair, in which a tie is a half; ties; games."""

    points: Floats
    ties: Floats
    games: Floats


class Fit(NamedTuple):
    """Strengths in nats (rows, players), player 0 at 0, and ln ν (rows,), null where a tie is half a win."""

    strengths: Floats
    log_ties: Floats | None


TieModel: TypeAlias = Callable[..., Fit]  # of (pairs, tables, *, players, prior_sd)


def half_wins(pairs: NDArray[np.int64], tables: Tables, *, players: int, prior_sd: float) -> Fit:
    """Bradley-Terry strengths: a tie is half a win. Raises ValueError if they do not converge."""
    return Fit(strengths(pairs, tables.points, tables.games, players=players, prior_sd=prior_sd), None)


def davidson(pairs: NDArray[np.int64], tables: Tables, *, players: int, prior_sd: float) -> Fit:
    """MAP strengths of Davidson's model, one ν for all pairs, by Newton with steps of a nat at most.

    Strengths have a Gaussian prior of `prior_sd` nats around 0, and so has ln ν, which data without a tie, or with
    nothing else, leave unbounded. Raises ValueError if it does not converge.
    """
    points, ties, games = tables
    design = (np.eye(players)[pairs[:, 0]] - np.eye(players)[pairs[:, 1]])[:, 1:]
    outer = (design[:, :, None] * design[:, None, :]).reshape(len(pairs), -1)
    found = np.zeros((len(points), players))  # strengths but player 0's, then ln ν
    hessian = np.zeros((len(points), players, players))
    for _ in range(_STEPS):
        gap, tie = chances(found[:, :-1] @ design.T, found[:, -1:])
        gradient = np.concatenate(
            [(points - games * (1 + gap) / 2) @ design, (ties - games * tie).sum(-1, keepdims=True)], -1
        )
        # the covariance of an outcome's score (1/2, -1/2, 0) and of whether it is a tie
        hessian[:, :-1, :-1] = ((games * (1 - tie - gap**2) / 4) @ outer).reshape(-1, players - 1, players - 1)
        hessian[:, :-1, -1] = hessian[:, -1, :-1] = -(games * gap * tie / 2) @ design
        hessian[:, -1, -1] = (games * tie * (1 - tie)).sum(-1)
        gradient -= found / prior_sd**2
        step = np.linalg.solve(hessian + np.eye(players) / prior_sd**2, gradient[..., None])[..., 0]
        longest = np.abs(step).max(-1, initial=0, keepdims=True)
        found += step * np.minimum(1, _LONGEST / np.maximum(longest, _CLOSE))
        if longest.max(initial=0) < _CLOSE:
            return Fit(np.pad(found[:, :-1], ((0, 0), (1, 0))), found[:, -1])
    raise ValueError(f"Davidson's strengths did not settle in {_STEPS} Newton steps: use a smaller prior_sd")


def chances(difference: Floats, log_ties: Floats) -> tuple[Floats, Floats]:
    """P(win) − P(loss), and P(tie), of a difference in nats and ln ν; the expected points are half of 1 + the first."""
    logits = np.stack(np.broadcast_arrays(difference / 2, -difference / 2, log_ties))
    weights = np.exp(logits - logits.max(0))
    win, loss, tie = weights / weights.sum(0)
    return win - loss, tie
