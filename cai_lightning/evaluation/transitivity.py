"""Whether one strength a player explains its verdicts: pairs against what Bradley-Terry says of them.

With a star around the anchor there is nothing to check; every further pair (a chord) closes a cycle.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cai_lightning.evaluation.bands import band
from cai_lightning.evaluation.intervals import FEW, Draws, Floats
from cai_lightning.evaluation.rated import Rated
from cai_lightning.evaluation.ratings import separated


def transitivity(rated: Rated, drawn: Draws) -> dict[str, Any] | None:
    """The chords of one axis, the pair that fits worst and the pairs that do not fit, as JSON; null without chords.

    A residual is row player's share of points less what the strengths say. Bounds hold all pairs at once in 95 % of
    samples; a pair whose bounds leave out 0 is among the `misfits`. A cycle makes such, and so does a judge with one
    order whose verdicts are not logistic in it, as with many ties. Left out are pairs of players that won or lost
    everything, for their strength rests on the prior, and pairs that met on fewer than ten clusters.
    """
    games, apart = rated.games, set(separated(rated.counted))
    met = (games.games > 0).any(1).sum(-1) >= FEW
    kept = [
        p
        for p, (i, j) in enumerate(games.pairs.tolist())
        if met[p] and not {games.players[i], games.players[j]} & apart
    ]
    chords = len(kept) - len({player for p in kept for player in games.pairs[p].tolist()}) + 1
    if not kept or chords < 1:
        return None
    rows = _residuals(rated, drawn, kept)
    low, high = band(rows, drawn, int((games.games[kept] > 0).any((0, 1)).sum()))
    shown = [
        {
            "player": games.players[games.pairs[p][0]],
            "opponent": games.players[games.pairs[p][1]],
            "value": float(rows[0, k]),
            "low": float(low[k]),
            "high": float(high[k]),
        }
        for k, p in enumerate(kept)
    ]
    return {
        "chords": chords,
        "worst": max(shown, key=lambda one: abs(one["value"])),
        "misfits": [one for one in shown if one["low"] > 0 or one["high"] < 0],
    }


def _residuals(rated: Rated, drawn: Draws, kept: list[int]) -> Floats:
    wins, games = rated.games.wins[kept], rated.games.games[kept]
    i, j = rated.games.pairs[kept].T
    return np.asarray(drawn.sums(wins) / drawn.sums(games) - rated.points(i, j))
