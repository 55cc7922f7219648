"""Figures of findings: one panel a metric, over rounds or any other quantity, over another metric, or arm by arm."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cai_lightning.report.figures import HEIGHT, PAPER, STYLE, WIDTH
from cai_lightning.report.marks import LIGHT, legend
from cai_lightning.report.places import Figures, arms_by_run, asked, axis, scale_of, titled, value_of
from cai_lightning.report.style import Look, label, looks

ACROSS = 2  # panels side by side
LINE = 0.24  # inches of an arm that has a line of its own


class Point(NamedTuple):
    """An arm in a panel: where it stands, its value and the ends of its interval, in the panel's units."""

    x: float
    value: float
    low: float
    high: float


def panels(findings: Figures) -> dict[str, Figure]:
    """Each panel as a figure of its own, by metric; empty where the findings ask for no figure, or have no values."""
    wanted = _metrics(findings)
    height = _height(findings)
    found = {}
    for metric in wanted:
        figure, (axes,) = _canvas(1, 1, height)
        _panel(axes, findings, metric, names=True)
        _legend(axes, findings, [metric])
        found[metric] = figure
    return found


def draw(findings: Figures) -> dict[str, Figure]:
    """All panels as one figure, under the findings' name made fit for a file; empty where there is nothing to draw."""
    wanted = _metrics(findings)
    if not wanted:
        return {}
    across = min(ACROSS, len(wanted))
    down = math.ceil(len(wanted) / across)
    figure, axes = _canvas(down, across, _height(findings))
    for k, (place, metric) in enumerate(zip(axes, wanted, strict=False)):
        _panel(place, findings, metric, names=k % across == 0)
    for place in axes[len(wanted) :]:
        place.set_axis_off()
    _legend(axes[0], findings, wanted)
    return {re.sub(r"[^\w.=,-]+", "_", str(findings["name"])): figure}


def _canvas(down: int, across: int, height: float) -> tuple[Figure, list[Axes]]:
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * across, height * down), facecolor=PAPER, layout="constrained")
        axes = [figure.add_subplot(down, across, k + 1) for k in range(down * across)]
        for place in axes:
            place.grid(True)
    return figure, axes


def _metrics(findings: Figures) -> list[str]:
    """The metrics of the figure for which some arm has a value."""
    arms = [arm for arms in arms_by_run(findings).values() for arm in arms]
    wanted = asked(findings).get("metrics") or []
    return [metric for metric in wanted if any(value_of(arm, metric) is not None for arm in arms)]


def _height(findings: Figures) -> float:
    arms = sum(map(len, arms_by_run(findings).values()))
    return max(HEIGHT * 0.6, LINE * arms + 0.8) if asked(findings).get("x") == "arm" else HEIGHT


def _legend(axes: Axes, findings: Figures, metrics: Sequence[str]) -> None:
    """Names the runs that have any of these metrics, where there are several runs."""
    runs = arms_by_run(findings)
    drawn = [
        run
        for run, arms in runs.items()
        if any(value_of(arm, metric) is not None for arm in arms for metric in metrics)
    ]
    if len(runs) > 1 and asked(findings).get("x") != "arm":
        look = looks(list(runs))
        with rc_context(STYLE):
            legend(axes, {run: look[run] for run in drawn})


def _panel(axes: Axes, findings: Figures, metric: str, *, names: bool) -> None:
    """Draws one metric. `names`: whether arms that stand in lines are named at the left."""
    with rc_context(STYLE):
        axes.set_title(titled(findings, metric), loc="left", fontsize=9, color=LIGHT["ink"])
        if asked(findings).get("x") == "arm":
            _draw_arms(axes, findings, metric, names=names)
        else:
            _draw_lines(axes, findings, metric)


def _draw_lines(axes: Axes, findings: Figures, metric: str) -> None:
    """A line a run over the quantity of the x axis with a ribbon; an arm that has none of it is a dashed level."""
    place, words = axis(findings)
    runs = arms_by_run(findings)
    look = looks(list(runs))
    times = scale_of(findings, metric)
    for run, arms in runs.items():
        points = [_point(arm, metric, x, times) for arm in arms if (x := place(arm)) is not None]
        known = sorted(point for point in points if point)
        levels = [_point(arm, metric, 0.0, times) for arm in arms if place(arm) is None]
        _line(axes, known, look[run])
        for level in (level for level in levels if level):
            axes.axhline(level.value, color=LIGHT[look[run].colour], linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlabel(words)
    axes.margins(x=0.04)
    if asked(findings).get("log"):
        axes.set_xscale("log")
        places = sorted({x for arms in runs.values() for arm in arms if (x := place(arm)) is not None})
        axes.set_xticks(places, [f"{x:g}" for x in places], minor=False)
        axes.set_xticks([], minor=True)
    elif all(float(x).is_integer() for arms in runs.values() for arm in arms if (x := place(arm)) is not None):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _point(arm: Mapping[str, Any], metric: str, x: float, times: float) -> Point | None:
    value = value_of(arm, metric)
    if value is None:
        return None
    figure = arm["figures"][metric]
    low, high = (value if figure.get(end) is None else figure[end] for end in ("low", "high"))
    return Point(x, times * value, times * low, times * high)


def _line(axes: Axes, points: Sequence[Point], look: Look) -> None:
    if not points:
        return
    x, value, low, high = zip(*points, strict=True)
    colour = LIGHT[look.colour]
    if len(points) > 1:
        axes.fill_between(x, low, high, color=colour, alpha=0.14, linewidth=0)
    else:
        axes.vlines(x, low, high, color=colour, linewidth=1.1)
    axes.plot(x, value, color=colour, marker=look.marker, markersize=5, linewidth=1.6)


def _draw_arms(axes: Axes, findings: Figures, metric: str, *, names: bool) -> None:
    """The arms from top to bottom as points with their intervals; a run's arms share its look."""
    runs = arms_by_run(findings)
    look = looks(list(runs))
    arms = [(run, arm) for run, arms in runs.items() for arm in arms]
    for y, (run, arm) in enumerate(arms):
        if point := _point(arm, metric, 0.0, scale_of(findings, metric)):
            colour = LIGHT[look[run].colour]
            axes.hlines(y, point.low, point.high, color=colour, linewidth=1.4)
            axes.plot([point.value], [y], color=colour, marker=look[run].marker, markersize=6, linestyle="")
    axes.set_yticks(range(len(arms)), [label(arm["arm"]) if names else "" for _, arm in arms], color=LIGHT["ink"])
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.margins(x=0.08)
