"""Bradley–Terry strengths from verdicts, as Elo differences to one anchor.

P(i beats j) = σ(θ_i − θ_j), a tie is half a win for each, and θ of the anchor is 0. The other strengths have a
Gaussian prior around it, so an all-win player stays finite, and with verdicts against the anchor alone no
player's rating depends on who else was rated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cai_lightning.evaluation.intervals import Floats
from cai_lightning.text.records import Verdict

ELO = 400 / math.log(10)  # Elo points a nat
_STEPS, _LONGEST, _CLOSE = 100, 2.0, 1e-11

TIE = 0.5  # the score of a tie

Column = tuple[str, str]  # kind and cluster: what a bootstrap resamples


@dataclass(frozen=True)
class Games:
    """Verdicts of one criterion as tables: pair p = (players[i], players[j]) has i's wins and the games.

    players: the anchor first; pairs: (P, 2) int; wins, games, ties: (P, R, C) over replicates and cluster columns. A
    tie is half a win, and a game.
    """

    players: tuple[str, ...]
    pairs: NDArray[np.int64]
    wins: Floats
    games: Floats
    ties: Floats

    def decided(self) -> Games:
        """The same without ties: wins and games of the verdicts that name a winner."""
        return replace(
            self, wins=self.wins - self.ties / 2, games=self.games - self.ties, ties=np.zeros_like(self.ties)
        )


def tabulate(replicates: Sequence[Sequence[Verdict]], columns: Mapping[Column, int], *, anchor: str) -> Games:
    """The tables of the verdicts of one criterion, one sequence a replicate.

    Raises ValueError where a player cannot be compared with the anchor, or lacks a replicate.
    """
    names = {name for verdicts in replicates for v in verdicts for name in (v.player, v.opponent)}
    players = (anchor, *sorted(names - {anchor}))
    place = {name: index for index, name in enumerate(players)}
    seen = sorted({_pair(v, place) for verdicts in replicates for v in verdicts})
    row = {pair: index for index, pair in enumerate(seen)}
    wins, games, ties = np.zeros((3, len(seen), len(replicates), len(columns)))
    for r, verdicts in enumerate(replicates):
        for v in verdicts:
            pair = _pair(v, place)
            at = row[pair], r, columns[v.kind, v.cluster]
            wins[at] += v.score if place[v.player] == pair[0] else 1 - v.score
            games[at] += 1
            ties[at] += v.score == TIE
    result = Games(players, np.array(seen, dtype=np.int64).reshape(-1, 2), wins, games, ties)
    for r in range(len(replicates)):
        _refuse_unconnected(result, r)
    return result


def _pair(verdict: Verdict, place: Mapping[str, int]) -> tuple[int, int]:
    i, j = sorted((place[verdict.player], place[verdict.opponent]))
    if i == j:
        raise ValueError(f"verdict on prompt {verdict.prompt!r} sets {verdict.player!r} against itself")
    return i, j


def _refuse_unconnected(table: Games, replicate: int) -> None:
    reached = {0}
    pairs = table.pairs[table.games[:, replicate].sum(-1) > 0].tolist()
    while fresh := {k for i, j in pairs for k in (i, j) if {i, j} & reached} - reached:
        reached |= fresh
    if apart := [name for k, name in enumerate(table.players) if k not in reached]:
        raise ValueError(
            f"no chain of verdicts links {', '.join(map(repr, apart))} to the anchor {table.players[0]!r} "
            f"in replicate {replicate}: judge them against it or leave them out"
        )


def strengths(pairs: NDArray[np.int64], wins: Floats, games: Floats, *, players: int, prior_sd: float) -> Floats:
    """MAP strengths in nats (rows, players) of a batch of tables wins, games (rows, P); player 0 stays at 0.

    Newton with steps cut to 2 nats; `prior_sd` in nats. Raises ValueError if it does not converge.
    """
    design = np.eye(players)[pairs[:, 0]] - np.eye(players)[pairs[:, 1]]
    design = design[:, 1:]
    outer = (design[:, :, None] * design[:, None, :]).reshape(len(pairs), -1)
    precision = np.eye(players - 1) / prior_sd**2
    theta = np.zeros((len(wins), players - 1))
    for _ in range(_STEPS):
        share = (1 + np.tanh(theta @ design.T / 2)) / 2
        gradient = (wins - games * share) @ design - theta / prior_sd**2
        curvature = (games * share * (1 - share)) @ outer
        hessian = curvature.reshape(-1, players - 1, players - 1) + precision
        step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        theta += np.clip(step, -_LONGEST, _LONGEST)
        if np.abs(step).max(initial=0) < _CLOSE:
            return np.pad(theta, ((0, 0), (1, 0)))
    raise ValueError(f"Bradley–Terry strengths did not settle in {_STEPS} Newton steps: use a smaller prior_sd")


def separated(table: Games) -> dict[str, str]:
    """The players whose rating rests on the prior: name -> "all wins" or "all losses"."""
    won, played = player_totals(table)
    return {
        name: "all losses" if won[k] == 0 else "all wins"
        for k, name in enumerate(table.players)
        if played[k] > 0 and won[k] in (0, played[k])
    }


def tied(table: Games) -> set[str]:
    """The players, without the anchor, whose every verdict is a tie."""
    ties, games = table.ties.sum((1, 2)), table.games.sum((1, 2))
    split = {k for pair, tie, n in zip(table.pairs.tolist(), ties, games, strict=True) if tie < n for k in pair}
    return {name for k, name in enumerate(table.players) if k and k not in split}


def player_totals(table: Games) -> tuple[Floats, Floats]:
    """Wins and games of each player over all pairs, replicates and clusters, (players,) each."""
    wins, games = table.wins.sum((1, 2)), table.games.sum((1, 2))
    won, played = np.zeros((2, len(table.players)))
    for (i, j), w, n in zip(table.pairs, wins, games, strict=True):
        won[i], won[j] = won[i] + w, won[j] + n - w
        played[i], played[j] = played[i] + n, played[j] + n
    return won, played


def clusters_of(table: Games, player: int) -> int:
    """The number of prompt clusters on which a player (by index) was judged."""
    mine = (table.pairs == player).any(1)
    return int((table.games[mine].sum((0, 1)) > 0).sum())


def win_matrix(table: Games) -> dict[str, Any]:
    """Row player's share of points against the column player, and the games behind it; null if they never met."""
    size = len(table.players)
    share: list[list[float | None]] = [[None] * size for _ in range(size)]
    count = [[0] * size for _ in range(size)]
    totals = zip(table.pairs.tolist(), table.wins.sum((1, 2)), table.games.sum((1, 2)), strict=True)
    for (i, j), won, played in totals:
        share[i][j], share[j][i] = float(won / played), float(1 - won / played)
        count[i][j] = count[j][i] = int(played)
    return {"players": list(table.players), "share": share, "n": count}
