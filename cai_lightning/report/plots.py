"""The frontier and the curves of an axis for `plots.js`: their data, and the controls that choose what is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from cai_lightning.report.axes import Axis
from cai_lightning.report.figures import CHI2
from cai_lightning.report.style import ELO, METRICS, SHAPES, Look, began_with, label, mark

ENDS = ("value", "low", "high")


def embedded(value: Any, name: str) -> str:
    """Data as a script element that is no script. Nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{escape(name)}">{text}</script>\n'


def names_of(axis: Axis) -> list[str]:
    """The players of an axis, then its lines of RL that are no players."""
    return list(dict.fromkeys([*axis.variant["players"], *(one["run"] for one in axis.variant["curve"])]))


def named(look: Mapping[str, Look]) -> dict[str, dict[str, Any]]:
    """{"label", "colour", "shape"} of every name; the shape is a polygon in per cent, or null for a circle."""
    return {
        name: {"label": label(name), "colour": one.colour, "shape": _corners(one.marker)} for name, one in look.items()
    }


def _corners(marker: str) -> list[list[float]] | None:
    shape = SHAPES.get(marker)
    return [list(map(float, corner.split())) for corner in shape.split(",")] if shape else None


def plot_data(axis: Axis, makers: Mapping[str, int]) -> dict[str, Any]:
    """{"players", "lines", "metrics", "chi2"} of an axis. `makers` gives the place of `answers/key` in the page's list.

    A player has "name", "runs" (places), "figures" (metric -> [value, low, high, n]), "ellipse"
    ([mean, covariance] or null) and "made" ([replicate, place]); a line has "points" ({"at", "figures"}).
    """
    variant = axis.variant
    players = [
        {
            "name": name,
            "runs": axis.places[name],
            "figures": _figures(figures),
            "ellipse": [variant["ellipses"][name][key] for key in ("mean", "covariance")]
            if name in variant["ellipses"]
            else None,
            "made": [[replicate, makers[one]] for replicate, one in axis.answers[name] if one in makers],
        }
        for name, figures in variant["players"].items()
    ]
    known = {metric: METRICS[metric] for metric in METRICS if any(metric in one["figures"] for one in players)}
    metrics = {name: {"label": words, "elo": name in ELO} for name, words in known.items()}
    return {"players": players, "lines": _lines(axis), "metrics": metrics, "chi2": CHI2}


def _figures(figures: Mapping[str, Any]) -> dict[str, list[float | None]]:
    return {
        metric: [_short(figures[metric][key]) for key in (*ENDS, "n")]
        for metric in METRICS
        if metric in figures and figures[metric]["value"] is not None
    }


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _lines(axis: Axis) -> list[dict[str, Any]]:
    """A line a run of RL, from the player that it began with where that one is on the axis."""
    players = axis.variant["players"]
    runs: dict[str, list[dict[str, Any]]] = {}
    for snapshot in axis.variant["curve"]:
        points = runs.setdefault(snapshot["run"], [])
        if not points and snapshot["sequences"] and (start := players.get(began_with(snapshot["run"]))):
            points.append({"at": 0, "figures": _figures(start)})
        points.append({"at": snapshot["sequences"], "figures": _figures(snapshot)})
    return [{"name": run, "runs": axis.places.get(run, []), "points": points} for run, points in runs.items()]


def choices(title: str, kind: str, options: Sequence[tuple[str, str]]) -> str:
    """A group of checkboxes that are all on: (value, label as HTML) each, with buttons for all and none of many."""
    boxes = "".join(
        f'<label><input type="checkbox" name="{kind}" value="{escape(value)}" checked> <span>{words}</span></label>'
        for value, words in options
    )
    words = ("all", "none") if len(options) > 2 else ()
    both = "".join(f'<button type="button" data-{word}>{word}</button> ' for word in words)
    return f'<fieldset><legend>{escape(title)} <span class="both">{both}</span></legend>{boxes}</fieldset>'


def plots(axis: Axis, number: int, runs: Sequence[str], look: Mapping[str, Look], static: Mapping[str, str]) -> str:
    """Frontier and curves of an axis with controls. `static` are the figures that stand there without JavaScript."""
    players = [(name, f"{mark(look[name])}{escape(label(name))}") for name in names_of(axis)]
    shown = {one.place: escape(runs[one.place]) for one in axis.rated}
    groups = (
        choices("Runs and sweeps", "run", [(str(k), words) for k, words in shown.items()]) if len(shown) > 1 else ""
    )
    still = "".join(f"<figure>{svg}</figure>" for svg in static.values())
    live = _live("frontier", "Helpful Elo against harmless Elo", "")
    if axis.variant["curve"]:
        live += _live(
            "curve",
            "Over RL samples",
            '<label class="metric-choice">Figure <select data-metric aria-label="Figure"></select></label>',
        )
    return (
        f'<div class="axis" data-axis="{number}"><div class="static figures">{still}</div>'
        f'<div class="live" hidden><form class="controls" aria-label="What the figures show">{groups}'
        f'{choices("Players", "player", players)}</form><div class="pair">{live}</div>'
        '<p class="caption">Point at a mark, tap it, or reach it with the tab key: below stands what it is and what '
        'made it.</p><div class="detail" role="status" aria-live="polite"></div></div></div>'
    )


def _live(kind: str, title: str, control: str) -> str:
    return (
        f'<figure class="live-figure"><div class="figure-head"><h3>{title}</h3>{control}</div>'
        f'<svg data-plot="{kind}" role="group" aria-label="{title}"></svg></figure>'
    )
