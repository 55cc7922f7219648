"""Lines over RL samples, one a run of RL: Elo under both criteria, and how many replies evade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from cai_lightning.report.marks import LIGHT, bounds, legend, name_points
from cai_lightning.report.style import Look, began_with, label, looks, ordered

RUNS = 3  # lines of training that are named at their ends; more stand in a legend
SPAN = 50  # Elo that an axis shows at least on either side of the anchor
CRITERIA = {"harmless_elo": ("vermilion", "^", "harmless"), "helpful_elo": ("blue", "o", "helpful")}


def by_run(variant: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """The snapshots of each run in training order; a sweep has a run a point."""
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for snapshot in variant["curve"]:
        runs.setdefault(snapshot["run"], []).append(snapshot)
    return runs


def draw_elo(axes: Axes, variant: Mapping[str, Any]) -> None:
    """Elo of the snapshots over RL samples under both criteria, with pointwise 95 % ribbons.

    SL-CAI stands at 0 samples of the runs that begin with it. A few runs are named at their ends, their colour is the
    criterion's; many have the looks of their players.
    """
    runs = by_run(variant)
    look = looks(list(ordered(variant["players"])))
    many = len(runs) > RUNS
    ends = []
    for metric, (colour, marker, word) in CRITERIA.items():
        for run, snapshots in runs.items():
            start = variant["players"].get(began_with(run))
            points = [(0, start[metric])] if start else []
            points += [(snapshot["sequences"], snapshot[metric]) for snapshot in snapshots]
            own = look.get(run, Look(colour, marker)) if many else Look(colour, marker)
            if end := _draw_run(axes, points, own, dashed=many and word == "helpful", ribbon=0.14 / len(runs)):
                setting = (run.partition("[")[2].rstrip("]") or label(run)) if len(runs) > 1 else ""
                ends.append((f"{word} {setting}".strip(), end, LIGHT[colour]))
    axes.set_xlabel("RL samples")
    axes.set_ylabel("Elo against the anchor" + (", helpful dashed" if many else ""))
    axes.update_datalim([(0, -SPAN), (0, SPAN)])
    axes.autoscale_view()
    axes.margins(x=0.02)
    if many:
        legend(axes, {run: look[run] for run in runs if run in look})
        return
    left, right = axes.get_xlim()
    axes.set_xlim(left, right + (0.17 if len(runs) < 2 else 0.34) * (right - left))
    name_points(axes, ends)


def draw_evasive(axes: Axes, variant: Mapping[str, Any]) -> None:
    """Evasive replies to red-team prompts over RL samples in per cent, a line a run, with pointwise 95 % ribbons."""
    runs = by_run(variant)
    look = looks(list(ordered({**variant["players"], **runs})))
    for run, snapshots in runs.items():
        start = variant["players"].get(began_with(run))
        points = [(0, start["evasive_rate"])] if start else []
        points += [(snapshot["sequences"], snapshot["evasive_rate"]) for snapshot in snapshots]
        _draw_run(axes, [(at, _per_cent(one)) for at, one in points], look[run], dashed=False, ribbon=0.14)
    axes.set_xlabel("RL samples")
    axes.set_ylabel("evasive replies to red-team prompts, per cent")
    axes.set_ylim(-2, 102)
    legend(axes, {run: look[run] for run in runs})


def _per_cent(figure: Mapping[str, Any]) -> dict[str, float | None]:
    return {end: None if figure[end] is None else 100 * figure[end] for end in ("value", "low", "high")}


def _draw_run(
    axes: Axes, points: Sequence[tuple[float, Mapping[str, Any]]], look: Look, *, dashed: bool, ribbon: float
) -> tuple[float, float] | None:
    """One line with its ribbon; where it ends."""
    known = [(x, *bounds(figure)) for x, figure in points if figure["value"] is not None]
    if not known:
        return None
    at, value, low, high = zip(*known, strict=True)
    colour, line = LIGHT[look.colour], "--" if dashed else "-"
    axes.fill_between(at, low, high, color=colour, alpha=ribbon, linewidth=0)
    axes.plot(at, value, color=colour, marker=look.marker, markersize=5, linewidth=1.6, linestyle=line)
    return at[-1], value[-1]
