"""One axis of a rating: Bradley-Terry tables of its verdicts and the Elo of every draw of a bootstrap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cai_lightning.evaluation.intervals import Draws, Floats, estimate, widened, wilson
from cai_lightning.evaluation.metrics import JAILBREAK
from cai_lightning.evaluation.ratings import (
    ELO,
    Column,
    Games,
    clusters_of,
    player_totals,
    separated,
    tabulate,
    tied,
)
from cai_lightning.evaluation.ties import Fit, Tables, TieModel, chances, half_wins
from cai_lightning.text.records import Verdict

_SAME = 1e-6  # Elo: what Newton may leave between equal data


class Rated(NamedTuple):
    """One axis: tables, Elo of every draw (rows, players) and of every replicate (R, players); ln ν of every draw."""

    games: Games
    rows: Floats
    single: Floats
    log_ties: Floats | None

    @property
    def counted(self) -> Games:
        """What strengths are made of: all verdicts where a tie is half a win, else those that name a winner."""
        return self.games if self.log_ties is None else self.games.decided()

    def points(self, i: NDArray[np.int64], j: NDArray[np.int64]) -> Floats:
        """The points (rows, pairs) that the strengths expect of players i against players j, 0 to 1."""
        difference = (self.rows[:, i] - self.rows[:, j]) / ELO
        if self.log_ties is None:
            return np.asarray((1 + np.tanh(difference / 2)) / 2)
        return (1 + chances(difference, self.log_ties[:, None])[0]) / 2


def axis_of(verdict: Verdict) -> str:
    """The rating that a verdict counts for: its criterion, but harmlessness under a jailbreak is rated by itself."""
    return JAILBREAK if (verdict.criterion, verdict.kind) == ("harmless", JAILBREAK) else verdict.criterion


def rate_axis(
    verdicts: Sequence[Sequence[Verdict]],
    columns: Mapping[Column, int],
    drawn: Draws,
    *,
    anchor: str,
    prior_sd: float,
    ties: TieModel = half_wins,
) -> Rated:
    """The Elo of the players of one axis, from its verdicts, one sequence a replicate; `prior_sd` in nats.

    `ties` makes strengths of tables. Raises ValueError where a player cannot be compared with the anchor.
    """
    games = tabulate(verdicts, columns, anchor=anchor)

    def fit(wins: Floats, tied: Floats, played: Floats) -> Fit:
        return ties(games.pairs, Tables(wins, tied, played), players=len(games.players), prior_sd=prior_sd)

    every = fit(*(drawn.sums(table) for table in (games.wins, games.ties, games.games)))
    single = fit(*(table.sum(-1).T for table in (games.wins, games.ties, games.games)))
    return Rated(games, ELO * every.strengths, ELO * single.strengths, every.log_ties)


def elo_figure(one: Rated, name: str, drawn: Draws) -> dict[str, Any]:
    """A player's Elo as JSON with its 95 % interval; the anchor has none."""
    k = one.games.players.index(name)
    n, value = clusters_of(one.games, k), float(one.rows[0, k])
    if k == 0:
        return estimate(value, (None, None), n)  # the anchor is 0 by definition: it has no interval
    rows = one.rows[:, k]
    if slack := open_elo(one, name):
        return estimate(value, widened(value, drawn.interval(rows, n), slack), n)
    if name not in separated(one.counted) and np.ptp(rows) > _SAME:
        return estimate(value, drawn.interval(rows, n), n)
    # all clusters alike: resampling shows no spread, and where all were won or lost the data bound one side only
    won, played = player_totals(one.counted)
    if played[k] == 0:
        return estimate(value, (None, None), n)  # ties alone bound no odds of winning
    low, high = (_logit(bound) for bound in wilson(won[k] / played[k] * n, n))
    return estimate(value, (low, high), n)


def open_elo(one: Rated, name: str) -> float:
    """The Elo, to either side, that verdicts leave open at 95 % beyond what draws show; 0 where not all are ties."""
    even = one.log_ties is None and name in tied(one.games)
    return tie_slack(clusters_of(one.games, one.games.players.index(name))) if even else 0.0


def tie_slack(n: int) -> float:
    """The Elo, to either side, that n prompt clusters of ties alone leave open at 95 %, where a tie is half a win.

    At most Wilson's upper bound of 0 among n is decided; that share could all have gone to one side.
    """
    decided = wilson(0, n).high
    return float(ELO * np.log((1 + decided) / (1 - decided)))


def _logit(share: float) -> float | None:
    return float(ELO * np.log(share / (1 - share))) if 0 < share < 1 else None
