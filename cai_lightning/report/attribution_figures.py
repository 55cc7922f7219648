"""Figures of what each principle does: a line a principle, a marker with its interval for each criterion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cai_lightning.report.figures import single
from cai_lightning.report.marks import LIGHT, bounds
from cai_lightning.report.style import Look

LOOKS = {"harmless": Look("vermilion", "^"), "helpful": Look("blue", "o")}
KINDS = {
    "leave_one_out": "points of preference lost where it is left out",
    "add_one": "points of preference above 50 where it is alone",
}
NAME = 28  # characters of a principle's id on an axis


def figures(principles: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """The kinds of effect that are known, as figures by name; the principles stand in the order given."""
    known = [kind for kind in KINDS if principles and kind in principles[0]["effects"]]
    draw: dict[str, Callable[[Axes], None]] = {
        kind: partial(draw_effects, principles=principles, kind=kind) for kind in known
    }
    return {kind: single(one, 1.2 + 0.24 * len(principles)) for kind, one in draw.items()}


def draw_effects(axes: Axes, principles: Sequence[Mapping[str, Any]], kind: str) -> None:
    """One kind of effect in hundredths of probability, the first principle on top."""
    criteria = list(principles[0]["effects"][kind])
    for place, criterion in enumerate(criteria):
        look, colour = LOOKS[criterion], LIGHT[LOOKS[criterion].colour]
        found = [(row, one["effects"][kind][criterion]) for row, one in enumerate(principles)]
        known = [(row, bounds(figure)) for row, figure in found if figure["value"] is not None]
        if not known:
            continue
        shift = (place - (len(criteria) - 1) / 2) * 0.3
        y = np.array([row for row, _ in known]) + shift
        value, low, high = (100 * np.array(column) for column in zip(*(ends for _, ends in known), strict=True))
        error = np.maximum([value - low, high - value], 0)
        axes.errorbar(value, y, xerr=error, fmt="none", ecolor=colour, elinewidth=1.2)
        axes.plot(value, y, color=colour, marker=look.marker, markersize=4.5, linestyle="")
    axes.axvline(0, color=LIGHT["muted"], linewidth=0.8)
    axes.set_yticks(range(len(principles)), [_short(one["id"]) for one in principles], color=LIGHT["ink"])
    axes.set_ylim(len(principles) - 0.4, -0.6)
    axes.set_xlabel(KINDS[kind])
    axes.grid(False, axis="y")
    handles = [
        Line2D([], [], color=LIGHT[LOOKS[name].colour], marker=LOOKS[name].marker, linestyle="", label=name)
        for name in criteria
    ]
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.legend(handles=handles, loc="outside upper right", ncols=2, fontsize=8)


def _short(name: str) -> str:
    text = name if len(name) <= NAME else f"{name[: NAME - 1]}…"
    return text.replace("$", r"\$")  # or matplotlib would read mathematics
