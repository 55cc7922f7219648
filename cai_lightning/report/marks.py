"""What several figures share: the light colours, a legend of players, names beside points, the ends of an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cai_lightning.report.style import COLOURS, Look, label

LIGHT = {role: pair[0] for role, pair in COLOURS.items()}
NAMED = 8  # players that are named beside their points; more stand in a legend


def legend(axes: Axes, look: Mapping[str, Look]) -> None:
    """The players' markers below the axes, and where colours repeat a line that says so."""
    points = [
        Line2D([], [], color=LIGHT[one.colour], marker=one.marker, linestyle="", label=label(name))
        for name, one in look.items()
    ]
    repeat = len({one.colour for one in look.values()}) < len(look)
    title = "Colours repeat: a player is colour and marker together" if repeat else None
    columns = 1 if len(look) > NAMED else 2
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.legend(handles=points, loc="outside lower left", ncols=columns, fontsize=8, title=title, title_fontsize=8)


def name_points(axes: Axes, placed: Sequence[tuple[str, tuple[float, float], str]]) -> None:
    """Writes (text, point, colour) beside the points, from below upwards, never closer than a line to the last one."""
    per_point = axes.figure.dpi / 72
    last = -math.inf
    for text, point, colour in sorted(placed, key=lambda item: item[1][1]):
        height = axes.transData.transform(point)[1] / per_point
        last = max(height - 3, last + 12)
        axes.annotate(text, point, (10, last - height), textcoords="offset points", color=colour, zorder=5)


def bounds(figure: Mapping[str, Any]) -> tuple[float, float, float]:
    """(value, low, high) of a figure with an interval; a bound that is missing is the value."""
    value = figure["value"]
    low, high = figure["low"], figure["high"]
    return value, value if low is None else low, value if high is None else high
