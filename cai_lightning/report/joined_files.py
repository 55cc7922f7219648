"""What a joined report leaves beside its page: figures as PNG, tables as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from cai_lightning.report.figures import draw_calibration, figures, single, write
from cai_lightning.report.joined import Joined
from cai_lightning.report.joined_page import render
from cai_lightning.report.joined_tables import tables
from cai_lightning.report.kinds import KINDS
from cai_lightning.report.sheets import write_csv


def write_all(joined: Joined, folder: Path) -> list[Path]:
    """The files written: report.html, figures/*.png, tables/*.csv; what lay there under these names is replaced."""
    for name in ("figures", "tables"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    page.write_text(render(joined), encoding="utf-8")
    drawn = write(folder / "figures", dict(_figures(joined)))
    sheets = [write_csv(folder / "tables" / f"{name}.csv", *sheet) for name, sheet in tables(joined).items()]
    return [page, *drawn, *sheets]


def _figures(joined: Joined) -> Iterator[tuple[str, Figure]]:
    """Every figure under a name of its own; those of one axis, or of one run, go without a number."""
    for k, axis in enumerate(joined.axes):
        for name, figure in figures(axis.variant, None).items():
            yield name if len(joined.axes) == 1 else f"{name}_{k + 1}", figure
    known = [one for one in joined.tables["calibration"] if one.content["bins"]]
    for k, one in enumerate(known):
        figure = single(partial(draw_calibration, calibration=one.content))
        yield "calibration" if len(known) == 1 else f"calibration_{k + 1}", figure
    for stage, kind in KINDS.items():
        held = joined.tables[stage]
        for k, one in enumerate(held):
            for name, figure in kind.draw(one.content).items():
                yield name if len(held) == 1 else f"{name}_{k + 1}", figure
