"""What a joined report leaves beside its page: figures as PNG, tables as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cai_lightning.report.axes import Axis
from cai_lightning.report.figures import draw_calibration, figures, single, write
from cai_lightning.report.joined import Joined, scale_words
from cai_lightning.report.joined_page import render
from cai_lightning.report.kinds import KINDS
from cai_lightning.report.ratings import peak_rows
from cai_lightning.report.sheets import write_csv

ENDS = ("value", "low", "high", "n")
Rows = list[dict[str, Any]]


def write_all(joined: Joined, folder: Path) -> list[Path]:
    """The files written: report.html, figures/*.png, tables/*.csv; what lay there under these names is replaced."""
    for name in ("figures", "tables"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    page.write_text(render(joined), encoding="utf-8")
    drawn = write(folder / "figures", dict(_figures(joined)))
    return [page, *drawn, *_write_tables(joined, folder / "tables")]


def _figures(joined: Joined) -> Iterator[tuple[str, Figure]]:
    """Every figure under a name of its own; those of one axis, or of one run, go without a number."""
    for k, axis in enumerate(joined.axes):
        for name, figure in figures(axis.variant, None).items():
            yield name if len(joined.axes) == 1 else f"{name}_{k + 1}", figure
    tables = [one for one in joined.tables["calibration"] if one.content["bins"]]
    for k, one in enumerate(tables):
        figure = single(partial(draw_calibration, calibration=one.content))
        yield "calibration" if len(tables) == 1 else f"calibration_{k + 1}", figure
    for stage, kind in KINDS.items():
        held = joined.tables[stage]
        for k, one in enumerate(held):
            for name, figure in kind.draw(one.content).items():
                yield name if len(held) == 1 else f"{name}_{k + 1}", figure


def _write_tables(joined: Joined, folder: Path) -> list[Path]:
    scale = ("axis", "anchor", "judge", "prompts", "ties")
    wanted: dict[str, tuple[tuple[str, ...], Rows]] = {
        "runs": (("run", "kind", "experiment", "folder", "seeds", "seconds"), _runs(joined)),
        "axes": ((*scale, "runs"), _axes(joined)),
        "players": (("axis", "player", "runs", "metric", *ENDS), list(_players(joined))),
        "curve": (("axis", "line", "samples", "metric", *ENDS), list(_curve(joined))),
        "peaks": (("axis", "line", "criterion", "at", "among", "peaked"), list(_peaks(joined))),
        "differences": (("axis", "run", "criterion", "player", "minus", *ENDS), list(_differences(joined))),
        "frontiers": (("axis", "run", "reference", "value", "low", "high"), list(_volumes(joined))),
        "calibration": (("run", "p", "share", "low", "high", "n"), list(_bins(joined))),
        **{stage: (("run", *kind.columns), list(_rows(joined, stage))) for stage, kind in KINDS.items()},
    }
    return [write_csv(folder / f"{name}.csv", columns, rows) for name, (columns, rows) in wanted.items() if rows]


def _runs(joined: Joined) -> Rows:
    return [
        {
            "run": run.label,
            "kind": "sweep" if run.is_sweep else "run",
            "experiment": run.facts["experiment"],
            "folder": run.folder.name,
            "seeds": " ".join(map(str, run.seeds)),
            "seconds": run.facts.get("seconds"),
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
