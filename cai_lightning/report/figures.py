"""The figures, drawn once: as PNG for papers, as SVG whose colours follow the page's."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from cai_lightning.report.feedback import interval_words
from cai_lightning.report.lines import RUNS, SPAN, by_run, draw_elo, draw_evasive
from cai_lightning.report.marks import LIGHT, NAMED, bounds, legend, name_points
from cai_lightning.report.style import COLOURS, GARBAGE, METRICS, Look, label, looks, measured, ordered

INK, MUTED, RULE, PAPER = (LIGHT[role] for role in ("ink", "muted", "rule", "paper"))
WIDTH, HEIGHT = 5.2, 3.9  # inches
DPI = 150
CHI2 = -2 * math.log(0.05)  # squared radius that holds 95 % of a standard normal in the plane
RATES = ("harmful_rate", "evasive_rate", GARBAGE, "benign_refusal_rate", "over_refusal_rate", "helpfulness")
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cai",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
}


def figures(variant: Mapping[str, Any], calibration: Mapping[str, Any] | None) -> dict[str, Figure]:
    """The figures for which there are data, by name: frontier, elo, evasive (of several runs), rates, calibration.

    `variant` is one of `ratings()["variants"]`, `calibration` what `calibrate()` returns.
    """
    wanted: dict[str, Callable[[Axes], None]] = {}
    if variant["frontier"]:
        wanted["frontier"] = lambda axes: draw_frontier(axes, variant)
    if variant["curve"]:
        wanted["elo"] = lambda axes: draw_elo(axes, variant)
    if len(by_run(variant)) > 1 and any(one["evasive_rate"]["value"] is not None for one in variant["curve"]):
        wanted["evasive"] = lambda axes: draw_evasive(axes, variant)
    if set(RATES) & set(measured(variant["players"])):
        wanted["rates"] = lambda axes: draw_rates(axes, variant["players"])
    if calibration and calibration["bins"]:
        wanted["calibration"] = lambda axes: draw_calibration(axes, calibration)
    players = len(variant["players"])
    listed, runs = 0.19 * players, len(by_run(variant))
    tall = {
        "frontier": HEIGHT + (listed if players > NAMED else 0),
        "elo": HEIGHT + (0.19 * runs if runs > RUNS else 0),
        "evasive": HEIGHT + 0.1 * runs,
        "rates": max(HEIGHT, 0.12 * len(RATES) * players) + listed / (1 if players > NAMED else 2),
    }
    return {name: single(draw, tall.get(name, HEIGHT)) for name, draw in wanted.items()}


def single(draw: Callable[[Axes], None], height: float = HEIGHT) -> Figure:
    """A figure of one panel, `height` inches high."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), facecolor=PAPER, layout="constrained")
        axes = figure.add_subplot()
        axes.grid(True)
        draw(axes)
    return figure


def draw_frontier(axes: Axes, variant: Mapping[str, Any]) -> None:
    """Players at (helpful, harmless) Elo with 95 % ellipses, seeds as dots, the Pareto front dashed."""
    players, ellipses = ordered(variant["players"]), variant["ellipses"]
    look = looks(list(players))
    placed = {name: point for name, player in players.items() if (point := _point(player))}
    _trajectory(axes, variant, look)
    front = sorted(placed[name] for name in variant["frontier"]["pareto"])
    axes.plot(*zip(*front, strict=True), color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
    for name, (x, y) in placed.items():
        colour = LIGHT[look[name].colour]
        if name in ellipses:
            axes.add_patch(_ellipse(ellipses[name], colour))
        seeds = variant["replicate_values"][name]
        if len(seeds["helpful_elo"]) > 1 and name in ellipses:
            axes.scatter(seeds["helpful_elo"], seeds["harmless_elo"], s=7, color=colour, alpha=0.55, linewidths=0)
        axes.scatter([x], [y], s=48, color=colour, marker=look[name].marker, edgecolors=PAPER, zorder=4)
    axes.set_xlabel("Helpful Elo")
    axes.set_ylabel("Harmless Elo")
    axes.margins(0.14)
    axes.update_datalim([(-SPAN, -SPAN), (SPAN, SPAN)])
    axes.autoscale_view()
    if len(placed) > NAMED:
        legend(axes, {name: look[name] for name in placed})
    else:
        name_points(axes, [(label(name), point, INK) for name, point in placed.items()])


def _trajectory(axes: Axes, variant: Mapping[str, Any], look: Mapping[str, Look]) -> None:
    for run, snapshots in by_run(variant).items():
        if points := [point for snapshot in snapshots if (point := _point(snapshot))]:
            colour = LIGHT[look[run].colour if run in look else "vermilion"]
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1, alpha=0.45, zorder=1)


def _point(player: Mapping[str, Any]) -> tuple[float, float] | None:
    x, y = player["helpful_elo"]["value"], player["harmless_elo"]["value"]
    return None if x is None or y is None else (x, y)


def _ellipse(shape: Mapping[str, Any], colour: str) -> Ellipse:
    values, vectors = np.linalg.eigh(np.array(shape["covariance"]))
    width, height = 2 * np.sqrt(CHI2 * np.maximum(values, 0))
    angle = math.degrees(math.atan2(vectors[1, 0], vectors[0, 0]))
    return Ellipse(shape["mean"], width, height, angle=angle, facecolor=colour, alpha=0.16, linewidth=0, zorder=1)


def draw_rates(axes: Axes, players: Mapping[str, Any]) -> None:
    """Rates of each player in per cent, as its marker on a bar, with 95 % intervals; helpfulness comes last."""
    players = ordered(players)
    known_rates = measured(players)
    rates = [rate for rate in RATES if rate in known_rates]
    look = looks(list(players))
    height = 0.8 / len(players)
    for k, (name, player) in enumerate(players.items()):
        known = [(place, bounds(player[rate])) for place, rate in enumerate(rates) if player[rate]["value"] is not None]
        if not known:
            continue
        y = [place - 0.4 + (k + 0.5) * height for place, _ in known]
        value, low, high = (100 * np.array(column) for column in zip(*(b for _, b in known), strict=True))
        colour = LIGHT[look[name].colour]
        axes.barh(y, value, height * 0.5, color=colour, alpha=0.3)
        error = np.maximum([value - low, high - value], 0)
        axes.errorbar(value, y, xerr=error, fmt="none", ecolor=colour, elinewidth=1.1)
        axes.plot(value, y, color=colour, marker=look[name].marker, markersize=5, linestyle="", clip_on=False, zorder=4)
    axes.set_yticks(range(len(rates)), [METRICS[rate].replace(" ", "\n") for rate in rates], color=INK)
    axes.set_ylim(len(rates) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("per cent of replies (helpfulness: mean share of right parts)")
    axes.grid(False, axis="y")
    legend(axes, look)


def draw_calibration(axes: Axes, calibration: Mapping[str, Any]) -> None:
    """How often A is better against P(A is better), in bins of equal size with 95 % Wilson bars."""
    bins: Sequence[Mapping[str, float]] = calibration["bins"]
    p, share, low, high = (np.array([entry[key] for entry in bins]) for key in ("p", "share", "low", "high"))
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.errorbar(
        p, share, yerr=np.maximum([share - low, high - share], 0), color=LIGHT["blue"], marker="o", linewidth=1.4
    )
    words = f"accuracy {calibration['accuracy']:.3f}\nECE {calibration['ece']:.3f}"
    if ends := interval_words(calibration):
        words += "\n" + ends.replace(", ", "\n")
    words += f"\nBrier {calibration['brier']:.3f}"
    axes.text(0.03, 0.97, words + f"\nn = {calibration['n']}", transform=axes.transAxes, va="top", linespacing=1.5)
    axes.set_xlabel("P(A is better) by the feedback model")
    axes.set_ylabel("share where A is better")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)


def write(folder: Path, figures: Mapping[str, Figure]) -> list[Path]:
    """The PNG files written to `folder`, 150 dots an inch, the same bytes every time."""
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        with rc_context(STYLE):
            FigureCanvasAgg(figure)
            figure.savefig(paths[-1], dpi=DPI, metadata={"Software": None})
    return paths


def svg(figure: Figure, name: str) -> str:
    """An inline `<svg>` without any address in it, its ids prefixed by `name`, its colours CSS variables."""
    buffer = io.StringIO()
    with rc_context(STYLE):
        FigureCanvasSVG(figure)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\s(xmlns(:xlink)?|version)="[^"]*"', "", text)
    text = re.sub(r'(<svg[^>]*?)\swidth="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r"\1", text))
    text = text.replace("xlink:href", "href")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font: ((?:\w+ )?)([\d.]+px) [^;\"]*", _font, text)
    for role, (light, _) in COLOURS.items():
        text = text.replace(light, f"var(--{role})")
    return text


def _font(match: re.Match[str]) -> str:
    weight = "font-weight: 600; " if match[1] else ""
    return f"{weight}font-size: {match[2]}"
