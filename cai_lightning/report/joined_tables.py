"""The tables of a joined report, as its CSV files and its page have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cai_lightning.report.axes import Axis
from cai_lightning.report.commands import command
from cai_lightning.report.joined import Joined, scale_words
from cai_lightning.report.kinds import KINDS
from cai_lightning.report.ratings import peak_rows
from cai_lightning.report.sheets import Sheet

ENDS = ("value", "low", "high", "n")
Rows = list[dict[str, Any]]


def tables(joined: Joined) -> dict[str, Sheet]:
    """The tables that have rows, by the name of their file."""
    scale = ("axis", "anchor", "judge", "prompts", "ties")
    wanted = {
        **{stage: Sheet(("run", *kind.columns), list(_rows(joined, stage))) for stage, kind in KINDS.items()},
        "players": Sheet(("axis", "player", "runs", "metric", *ENDS), list(_players(joined))),
        "curve": Sheet(("axis", "line", "samples", "metric", *ENDS), list(_curve(joined))),
        "peaks": Sheet(("axis", "line", "criterion", "at", "among", "peaked"), list(_peaks(joined))),
        "differences": Sheet(("axis", "run", "criterion", "player", "minus", *ENDS), list(_differences(joined))),
        "frontiers": Sheet(("axis", "run", "reference", "value", "low", "high"), list(_volumes(joined))),
        "calibration": Sheet(("run", "p", "share", "low", "high", "n"), list(_bins(joined))),
        "axes": Sheet((*scale, "runs"), _axes(joined)),
        "runs": Sheet(("run", "kind", "experiment", "folder", "seeds", "seconds", "command"), _runs(joined)),
    }
    return {name: sheet for name, sheet in wanted.items() if sheet.rows}


def _runs(joined: Joined) -> Rows:
    return [
        {
            "run": run.label,
            "kind": "sweep" if run.is_sweep else "run",
            "experiment": run.facts["experiment"],
            "folder": run.folder.name,
            "seeds": " ".join(map(str, run.seeds)),
            "seconds": run.facts.get("seconds"),
            "command": command(run),
        }
        for run in joined.runs
    ]


def _axes(joined: Joined) -> Rows:
    return [
        {"axis": k + 1, **scale_words(axis), "runs": ", ".join(one.label for one in axis.rated)}
        for k, axis in enumerate(joined.axes)
    ]


def _players(joined: Joined) -> Iterator[dict[str, Any]]:
    for k, axis in enumerate(joined.axes):
        for name, figures_of in axis.variant["players"].items():
            runs = ", ".join(joined.runs[place].label for place in axis.places[name])
            for metric, figure in figures_of.items():
                yield {"axis": k + 1, "player": name, "runs": runs, "metric": metric, **_figure(figure)}


def _curve(joined: Joined) -> Iterator[dict[str, Any]]:
    for k, axis in enumerate(joined.axes):
        for snapshot in axis.variant["curve"]:
            for metric, figure in snapshot.items():
                if isinstance(figure, Mapping):
                    place = {"axis": k + 1, "line": snapshot["run"], "samples": snapshot["sequences"]}
                    yield {**place, "metric": metric, **_figure(figure)}


def _peaks(joined: Joined) -> Iterator[dict[str, Any]]:
    for k, axis in enumerate(joined.axes):
        for row in peak_rows(axis.variant):
            yield {"axis": k + 1, **row}


def _figure(figure: Mapping[str, Any]) -> dict[str, Any]:
    return {end: figure[end] for end in ENDS}


def _each(joined: Joined) -> Iterator[tuple[int, Axis, Any]]:
    for k, axis in enumerate(joined.axes):
        for one in axis.rated:
            yield k + 1, axis, one


def _differences(joined: Joined) -> Iterator[dict[str, Any]]:
    """Paired differences are of one table of ratings: players of different runs have none."""
    for axis, _, one in _each(joined):
        for difference in one.variant["differences"]:
            yield {"axis": axis, "run": one.label, **difference}


def _volumes(joined: Joined) -> Iterator[dict[str, Any]]:
    for axis, _, one in _each(joined):
        if frontier := one.variant["frontier"]:
            yield {"axis": axis, "run": one.label, "reference": frontier["reference"][0], **frontier["hypervolume"]}


def _bins(joined: Joined) -> Iterator[dict[str, Any]]:
    for one in joined.tables["calibration"]:
        for entry in one.content["bins"]:
            yield {"run": one.run.label, **{key: entry[key] for key in ("p", "share", "low", "high", "n")}}


def _rows(joined: Joined, stage: str) -> Iterator[dict[str, Any]]:
    for one in joined.tables[stage]:
        for row in KINDS[stage].rows(one.content):
            yield {"run": one.run.label, **row}
