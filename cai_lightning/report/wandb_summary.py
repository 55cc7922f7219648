"""The W&B run that stands for a whole run or sweep: its figures, its tables and its page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cai_lightning.report import wandb_content as content
from cai_lightning.report.wandb_runs import log_table


def log_summary(run: Any, folder: Path) -> None:
    """Logs what the report has written into `folder`: summary.json, figures, report.html; whatever there is of it."""
    import wandb

    file = folder / "summary.json"
    if file.exists():
        summary = json.loads(file.read_text(encoding="utf-8"))
        run.summary.update(content.figures_of(summary))
        if summary["players"]:
            log_table(run, "players", *content.players(summary))
        _log_curves(run, content.curves(summary))
        for name, table in summary["tables"].items():
            if isinstance(table, dict) and table.get("claims"):
                log_table(run, f"claims/{name}", *content.claims(table))
    for image in sorted((folder / "figures").glob("*.png")):
        run.log({f"figures/{image.stem}": wandb.Image(str(image))})
    page = folder / "report.html"
    if page.exists():
        run.log({"report": wandb.Html(page.read_text(encoding="utf-8"), inject=False)})
    written = [path for name in ("summary.json", "config.yaml", "run.json") if (path := folder / name).exists()]
    artifact = wandb.Artifact(f"report-{run.id}", type="report")
    for path in written:
        artifact.add_file(str(path), policy="immutable", skip_cache=True)
    run.log_artifact(artifact)


def _log_curves(run: Any, rows: Sequence[Mapping[str, float]]) -> None:
    """Logs the snapshots' figures over RL samples."""
    if rows:
        run.define_metric(content.EPISODE)
        run.define_metric(f"{content.CURVE}/*", step_metric=content.EPISODE)
    for row in rows:
        run.log(dict(row))
