"""The end of a run that takes a constitution apart: a page, figures, and a table of what each principle does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table as Lines

from cai_lightning.report.attribution_figures import figures
from cai_lightning.report.attribution_page import order, points, sections
from cai_lightning.report.console import as_text
from cai_lightning.report.figures import write
from cai_lightning.report.page import whole
from cai_lightning.report.sheets import write_csv
from cai_lightning.text.artifacts import Table

WIDTH = 120
COLUMNS = ("principle", "text", "covers", "effect", "criterion", "value", "low", "high", "n")


def run(folder: Path, *, run: Mapping[str, Any], attribution: Table, note: str | None) -> None:
    """Writes `report.html`, `figures/*.png` and `attribution.csv` into `folder`, and prints the principles in order."""
    found = json.loads((attribution / "attribution.json").read_text(encoding="utf-8"))
    ranked = order(found["principles"])
    facts = {
        "constitution": str(found["constitution"]),
        "through": str(found["through"]).replace("_", " "),
        "seeds": ", ".join(map(str, found["replicates"])),
        "principles": str(len(ranked)),
        "pairs": f"{found['pairs']:,}",
    }
    page = whole(str(run["experiment"]), facts, note, sections(found))
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "figures").mkdir(exist_ok=True)
    write(folder / "figures", figures(ranked))
    write_csv(folder / "attribution.csv", COLUMNS, rows(found))
    if ranked:
        print(as_text(_lines(found), width=WIDTH))
    print(f"report: {folder / 'report.html'}")


def rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a principle, effect and criterion, with the columns `COLUMNS`."""
    return [
        {
            "principle": one["id"],
            "text": one["text"],
            "covers": " ".join(one["covers"] or []),
            "effect": kind,
            "criterion": criterion,
            **{key: figure[key] for key in ("value", "low", "high", "n")},
        }
        for one in found["principles"]
        for kind, by_criterion in one["effects"].items()
        for criterion, figure in by_criterion.items()
    ]


def _lines(found: Mapping[str, Any]) -> Lines:
    ranked = order(found["principles"])
    known = [(kind, name) for kind, by_name in ranked[0]["effects"].items() for name in by_name]
    shown = [(kind, name) for kind, name in known if kind != "accuracy"] or known
    title = f"{found['constitution']}, through {found['through']}: hundredths of probability for the better reply"
    lines = Lines(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    lines.add_column("Principle", overflow="fold")
    for kind, name in shown:
        lines.add_column(f"{kind.replace('_', ' ')}\n{name}", justify="right", no_wrap=True)
    for one in ranked:
        cells = [one["effects"][kind][name] for kind, name in shown]
        lines.add_row(
            escape(one["id"]),
            *(f"{points(cell['value'])} ({points(cell['low'])} … {points(cell['high'])})" for cell in cells),
        )
    return lines
