"""The end of a run or sweep that has findings and rates no players: summary, page, figures, CSV, claims printed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai_lightning.report.console import as_text, claims_table
from cai_lightning.report.page import render
from cai_lightning.report.publish import content, jobs, summarise, write_beside
from cai_lightning.text.artifacts import Table

WIDTH = 120


def run(
    folder: Path,
    *,
    run: Mapping[str, Any],
    findings: Table,
    tables: dict[str, Table],
    judge: str | None,
    note: str | None,
) -> None:
    """Writes the run's files into `folder` and prints the claims; the summary has the findings under `tables.findings`.

    `tables` are further tables by name. Raises ValueError where an artifact holds no table, or more than one.
    """
    shown = {name: content(path) for name, path in {"findings": findings, **tables}.items()}
    summary = summarise(
        run,
        None,
        feedback=None,
        reward_model=None,
        evals=None,
        tables={name: one.content for name, one in shown.items()},
        jobs=jobs(folder) if isinstance(run["replicate"], list) else [],
        judge=judge,
        warnings=[],
    )
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    parts = {"ratings": None, "calibration": None, "reward_model": None, "note": note, "public": shown}
    (folder / "report.html").write_text(render(summary, parts, []), encoding="utf-8")
    measured = shown["findings"].content
    write_beside(folder, {}, [measured])
    print(as_text(claims_table(measured, title=str(run["experiment"])), width=WIDTH))
    print(f"report: {folder / 'report.html'}")
