"""The players' part of a summary: ratings and rates with intervals, a pure function of verdict and assessment rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from cai_lightning.evaluation.bands import peak
from cai_lightning.evaluation.frontier import hypervolume, non_dominated, probability_non_dominated
from cai_lightning.evaluation.intervals import Draws, Floats, draws, estimate, widened
from cai_lightning.evaluation.metrics import JAILBREAK, player_rates
from cai_lightning.evaluation.rated import Rated, axis_of, elo_figure, open_elo, rate_axis
from cai_lightning.evaluation.ratings import TIE, Column, clusters_of, separated, win_matrix
from cai_lightning.evaluation.ties import TieModel, half_wins
from cai_lightning.evaluation.transitivity import transitivity
from cai_lightning.text.records import Assessment, Verdict

CRITERIA = ("helpful", "harmless")
LEAST = 3  # points of a curve that can have a peak
AXES = (*CRITERIA, JAILBREAK)  # what is rated; the last in runs that have such verdicts only


class Run(NamedTuple):
    """What the judge said about one run: its verdicts and assessments."""

    verdicts: Sequence[Verdict]
    assessments: Sequence[Assessment]


def ratings(
    runs: Mapping[tuple[str, str], Run],
    *,
    anchor: str,
    prior_sd: float,
    reference: float,
    resamples: int,
    seed: int,
    ties: TieModel = half_wins,
) -> dict[str, Any]:
    """Ratings and rates as JSON: {"anchor", "prior_sd", "resamples", "variants": {name: ...}}.

    `runs` maps (variant, replicate) to rows; replicates are the seeds of one variant. `prior_sd` is in nats,
    `reference` the Elo of the hypervolume's corner on both axes; `ties` makes strengths of tables (evaluation/ties.py).
    The layout of a variant: docs/summary.md.
    """
    variants: dict[str, dict[str, Run]] = {}
    for (variant, replicate), run in runs.items():
        variants.setdefault(variant, {})[replicate] = run
    options: dict[str, Any] = {"anchor": anchor, "prior_sd": prior_sd, "ties": ties}
    rated = {
        name: _variant(replicates, reference=reference, resamples=resamples, seed=seed, **options)
        for name, replicates in variants.items()
    }
    return {"anchor": anchor, "prior_sd": prior_sd, "resamples": resamples, "variants": rated}


def _variant(
    runs: Mapping[str, Run],
    *,
    anchor: str,
    reference: float,
    resamples: int,
    seed: int,
    **options: Any,
) -> dict[str, Any]:
    judged = {(v.kind, v.cluster) for run in runs.values() for v in run.verdicts}
    ordered = sorted(judged | {(row.kind, row.cluster) for run in runs.values() for row in run.assessments})
    columns = {column: index for index, column in enumerate(ordered)}
    drawn = draws([kind for kind, _ in ordered], len(runs), resamples=resamples, seed=seed)
    rated = _rated(runs, columns, drawn, anchor=anchor, **options)
    plane = {criterion: rated[criterion] for criterion in CRITERIA if criterion in rated}
    step = {row.player: row.sequences for run in runs.values() for row in run.assessments}
    names = sorted({name for one in rated.values() for name in one.games.players} | set(step))
    names.sort(key=lambda name: name != anchor)
    figures, single = {}, {}
    for name in names:
        figures[name], single[name] = _player(name, runs, columns, drawn, rated)
    snapshots = sorted((at, name) for name, at in step.items() if at is not None)
    players = [name for name in names if step.get(name) is None or "@" not in name]
    return {
        "replicates": list(runs),
        "players": {name: figures[name] for name in players},
        "replicate_values": single,
        "curve": [
            {"player": name, "run": name.partition("@")[0], "sequences": at, **figures[name]} for at, name in snapshots
        ],
        "peaks": _peaks(rated, [name for _, name in snapshots], drawn),
        "differences": _differences(rated, [name for name in players if name != anchor], drawn),
        "ellipses": _ellipses(plane, names[1:], drawn),
        "frontier": _frontier(plane, players, drawn, reference),
        "separated": {axis: separated(one.counted) for axis, one in rated.items()},
        "ties": {axis: _ties(runs, axis) for axis in rated},
        "wins": {axis: win_matrix(one.games) for axis, one in rated.items()},
        "transitivity": {axis: transitivity(one, drawn) for axis, one in rated.items()},
        **_davidson(rated, drawn),
    }


def _rated(runs: Mapping[str, Run], columns: Mapping[Column, int], drawn: Draws, **options: Any) -> dict[str, Rated]:
    """Every axis that has verdicts; `options` are those of `rate_axis`."""
    return {
        axis: rate_axis(verdicts, columns, drawn, **options)
        for axis in AXES
        if any(verdicts := [[v for v in r.verdicts if axis_of(v) == axis] for r in runs.values()])
    }


def _player(
    name: str, runs: Mapping[str, Run], columns: Mapping[Column, int], drawn: Draws, rated: Mapping[str, Rated]
) -> tuple[dict[str, Any], dict[str, list[float | None]]]:
    mine = [[row for row in run.assessments if row.player == name] for run in runs.values()]
    rates, single = player_rates(mine, columns, drawn)
    figures: dict[str, Any] = {}
    values: dict[str, list[float | None]] = {}
    for axis in dict.fromkeys((*CRITERIA, *rated)):
        one = rated.get(axis)
        known = one is not None and name in one.games.players
        figures[f"{axis}_elo"] = elo_figure(one, name, drawn) if one and known else estimate(None, (None, None), 0)
        values[f"{axis}_elo"] = (
            one.single[:, one.games.players.index(name)].tolist() if one and known else [None] * len(runs)
        )
    return figures | rates, values | single


def _peaks(rated: Mapping[str, Rated], snapshots: Sequence[str], drawn: Draws) -> dict[str, Any]:
    """Run -> axis -> where its Elo is highest, and whether it had surely been lower before and after."""
    found: dict[str, dict[str, Any]] = {}
    for run in dict.fromkeys(name.partition("@")[0] for name in snapshots):
        points = [*(name for name in snapshots if name.partition("@")[0] == run), run]
        for axis, one in rated.items():
            known = [one.games.players.index(name) for name in points if name in one.games.players]
            if len(known) < LEAST:
                continue
            top = peak(one.rows[:, known], drawn, min(clusters_of(one.games, k) for k in known))
            among = [one.games.players[known[k]] for k in top.among]
            ends = {0, len(known) - 1}
            name = one.games.players[known[top.at]]
            found.setdefault(run, {})[axis] = {"at": name, "among": among, "peaked": not ends & set(top.among)}
    return found


def _differences(rated: Mapping[str, Rated], players: Sequence[str], drawn: Draws) -> list[dict[str, Any]]:
    """Paired Elo differences between players other than the anchor: narrower than their intervals suggest."""
    found = []
    for criterion, one in rated.items():
        known = [one.games.players.index(name) for name in players if name in one.games.players]
        for k, j in combinations(known, 2):
            rows = one.rows[:, k] - one.rows[:, j]
            n = min(clusters_of(one.games, k), clusters_of(one.games, j))
            names = {"player": one.games.players[k], "minus": one.games.players[j]}
            slack = math.hypot(*(open_elo(one, name) for name in names.values()))
            figure = estimate(float(rows[0]), widened(float(rows[0]), drawn.interval(rows, n), slack), n)
            found.append({"criterion": criterion, **names, **figure})
    return found


def _both(rated: Mapping[str, Rated], name: str) -> bool:
    return len(rated) == len(CRITERIA) and all(name in one.games.players for one in rated.values())


def _points(rated: Mapping[str, Rated], names: Sequence[str]) -> Floats:
    """Elo (rows, names, 2) under both criteria."""
    by_axis = [
        rated[criterion].rows[:, [rated[criterion].games.players.index(name) for name in names]]
        for criterion in CRITERIA
    ]
    return np.stack(by_axis, -1)


def _ellipses(rated: Mapping[str, Rated], names: Sequence[str], drawn: Draws) -> dict[str, Any]:
    ellipses = {}
    for name in (name for name in names if _both(rated, name)):
        sizes = [clusters_of(one.games, one.games.players.index(name)) for one in rated.values()]
        points = _points(rated, [name])[:, 0]
        covariance = drawn.covariance(points, sizes)
        ellipses[name] = {"mean": points[0].tolist(), "covariance": covariance.tolist()}
    return ellipses


def _frontier(
    rated: Mapping[str, Rated], players: Sequence[str], drawn: Draws, reference: float
) -> dict[str, Any] | None:
    names = [name for name in players if _both(rated, name)]
    if not names:
        return None
    points = _points(rated, names)
    volume = hypervolume(points, (reference, reference))
    n = min(clusters_of(one.games, 0) for one in rated.values())
    low, high = drawn.reflected(volume, n)
    inside = probability_non_dominated(points[0] + np.sum(drawn.levels(points), 0))
    return {
        "reference": [reference, reference],
        "hypervolume": {"value": float(volume[0]), "low": low, "high": high},
        "pareto": [name for name, free in zip(names, non_dominated(points[0]), strict=True) if free],
        "non_dominated": dict(zip(names, inside.tolist(), strict=True)),
    }


def _davidson(rated: Mapping[str, Rated], drawn: Draws) -> dict[str, Any]:
    """{"davidson": axis -> the share of ties, ν / (2 + ν), between players of equal strength}; empty of half-wins."""
    found = {}
    for axis, one in rated.items():
        if one.log_ties is not None:
            n = int((one.games.games > 0).any((0, 1)).sum())
            low, high = drawn.interval(one.log_ties, n)
            value, *bounds = (float(1 / (1 + 2 * np.exp(-x))) for x in (one.log_ties[0], low, high))
            found[axis] = estimate(value, (bounds[0], bounds[1]), n)
    return {"davidson": found} if found else {}


def _ties(runs: Mapping[str, Run], axis: str) -> float:
    scores = [v.score for run in runs.values() for v in run.verdicts if axis_of(v) == axis]
    return scores.count(TIE) / len(scores)
