"""Arms beside each other: every metric of every arm with its bootstrap draws, so that contrasts are paired.

An arm is a player, or a point of one (`player@point`: a snapshot, a round of revision); a metric is the mean of
something that was measured on each reply, or an Elo from verdicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cai_lightning.evaluation.intervals import FEW, Draws, Floats, draws, estimate, wilson
from cai_lightning.evaluation.rated import axis_of, elo_figure, open_elo, rate_axis
from cai_lightning.evaluation.ratings import TIE, Column, clusters_of
from cai_lightning.evaluation.summary import Run
from cai_lightning.text.records import Assessment

SHARE = "share"
_DIGITS = 6  # of Elo: the rest is what Newton leaves between equal data


@dataclass(frozen=True)
class Metric:
    """What is measured of an arm: the mean of `key` over prompts of `kinds` (all, where empty), or Elo by `criterion`.

    `unit` is "share" where values lie in 0..1; `better` is "more", "less" or null where neither is. `ties`: a half of
    `key` is a comparison that came out even.
    """

    label: str
    unit: str
    better: str | None
    key: str | None = None
    kinds: tuple[str, ...] = ()
    criterion: str | None = None
    ties: bool = False


@dataclass(frozen=True)
class Cell:
    """One metric of one arm: draws (rows,) with the point first, n prompt clusters, and the figure as JSON.

    Where no comparison named a winner the figure has "tied": true. `slack` is what such an Elo leaves open to either
    side at 95 %, 0 of the anchor; null where the draws show it.
    """

    rows: Floats
    n: int
    share: bool
    figure: dict[str, Any]
    slack: float | None = None


@dataclass(frozen=True)
class Measured:
    """All cells, metric -> arm -> cell; `points` says at which point an arm stands; `incomplete` lack a replicate."""

    drawn: Draws
    cells: dict[str, dict[str, Cell]]
    points: dict[str, int | None]
    incomplete: tuple[str, ...]


def measure(
    runs: Mapping[str, Run],
    metrics: Mapping[str, Metric],
    *,
    anchor: str | None,
    prior_sd: float,
    resamples: int,
    seed: int,
) -> Measured:
    """Every metric of every arm over the replicates `runs`; arms that a replicate lacks are left out and named.

    Elo are relative to `anchor` with a prior of `prior_sd` nats. Raises ValueError where a metric was measured in some
    replicates of an arm only, or verdicts do not reach the anchor.
    """
    named = {replicate: {row.player for row in run.assessments} for replicate, run in runs.items()}
    whole = set.intersection(*named.values())
    runs = {replicate: _of(run, whole) for replicate, run in runs.items()}
    judged = {(row.kind, row.cluster) for run in runs.values() for row in run.verdicts}
    seen = judged | {(row.kind, row.cluster) for run in runs.values() for row in run.assessments}
    columns = {column: index for index, column in enumerate(sorted(seen))}
    drawn = draws([kind for kind, _ in columns], len(runs), resamples=resamples, seed=seed)
    cells = _means([run.assessments for run in runs.values()], metrics, columns, drawn)
    for name, metric in metrics.items():
        if metric.criterion is not None and anchor is not None:
            cells[name] = _elo(runs, metric.criterion, columns, drawn, anchor=anchor, prior_sd=prior_sd)
    points = {row.player: row.sequences for run in runs.values() for row in run.assessments}
    return Measured(drawn, cells, points, tuple(sorted(set.union(*named.values()) - whole)))


def _of(run: Run, arms: set[str]) -> Run:
    return Run(
        [row for row in run.verdicts if {row.player, row.opponent} <= arms],
        [row for row in run.assessments if row.player in arms],
    )


def _means(
    replicates: Sequence[Iterable[Assessment]],
    metrics: Mapping[str, Metric],
    columns: Mapping[Column, int],
    drawn: Draws,
) -> dict[str, dict[str, Cell]]:
    """The cells of metrics that are means."""
    of_key: dict[str, list[str]] = {}
    for name, metric in metrics.items():
        if metric.key is not None:
            of_key.setdefault(metric.key, []).append(name)
    tables: dict[tuple[str, str], Floats] = {}
    decided: set[tuple[str, str]] = set()
    shape = 2, len(replicates), len(columns)  # sums, then counts
    for r, rows in enumerate(replicates):
        for row in rows:
            for key in row.metrics.keys() & of_key.keys():
                if (value := row.metrics[key]) is None:
                    continue
                for name in of_key[key]:
                    if not metrics[name].kinds or row.kind in metrics[name].kinds:
                        table = tables.setdefault((name, row.player), np.zeros(shape))
                        table[:, r, columns[row.kind, row.cluster]] += np.array([value, 1])
                        if value != TIE:
                            decided.add((name, row.player))
    cells: dict[str, dict[str, Cell]] = {name: {} for name in metrics}
    for (name, arm), (total, count) in tables.items():
        if not count.sum(1).all():
            raise ValueError(f"{arm}: {name} was measured in some replicates only; measure it in all or in none")
        cell = _mean(total, count, drawn, share=metrics[name].unit == SHARE)
        even = metrics[name].ties and (name, arm) not in decided
        cells[name][arm] = replace(cell, figure=_of_ties(cell.n)) if even else cell
    return cells


def _mean(total: Floats, count: Floats, drawn: Draws, *, share: bool) -> Cell:
    used = count > 0
    n, rows = int(used.any(0).sum()), drawn.sums(total) / drawn.sums(count)
    value, alike = float(rows[0]), float(np.ptp(total[used] / count[used])) == 0
    if share and (n < FEW or alike):
        return Cell(rows, n, share, estimate(value, wilson(value * n, n), n))
    low, high = drawn.interval(rows, n)
    bounds = (max(0.0, low), min(1.0, high)) if share else (low, high)
    return Cell(rows, n, share, estimate(value, bounds if n >= FEW else (None, None), n))


def _elo(
    runs: Mapping[str, Run],
    criterion: str,
    columns: Mapping[Column, int],
    drawn: Draws,
    *,
    anchor: str,
    prior_sd: float,
) -> dict[str, Cell]:
    verdicts = [[one for one in run.verdicts if axis_of(one) == criterion] for run in runs.values()]
    if not any(verdicts):
        return {}
    rated = rate_axis(verdicts, columns, drawn, anchor=anchor, prior_sd=prior_sd)
    rows = np.round(rated.rows, _DIGITS)
    cells = {}
    for k, name in enumerate(rated.games.players):
        n, figure = clusters_of(rated.games, k), elo_figure(rated, name, drawn)
        if slack := open_elo(rated, name):
            cells[name] = Cell(rows[:, k], n, False, _marked(figure), slack)
        else:
            cells[name] = Cell(rows[:, k], n, False, figure, None if k else 0.0)
    return cells


def _of_ties(n: int) -> dict[str, Any]:
    """A share that n clusters of ties alone make: one half, and the same way from it as `rated.tie_slack`."""
    open_ = wilson(0, n).high / 2
    return _marked(estimate(TIE, (TIE - open_, TIE + open_), n))


def _marked(figure: dict[str, Any]) -> dict[str, Any]:
    """The figure, marked as one of ties alone."""
    return figure | {"tied": True}
