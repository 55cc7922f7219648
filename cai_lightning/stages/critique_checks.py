"""Critiques against the truth about the reply that they are about, as rows: what they find, miss and make up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import AssessmentRows, RevisionRows
from cai_lightning.text.records import Assessment, Revision, read_rows, write_rows

Check = Callable[[str, str, str], dict[str, float | None]]


def run(out: Path, *, revisions: dict[str, RevisionRows], check: Check) -> AssessmentRows:
    """Assessment rows of `name@round`: what `check(request, reply, critique)` says; direct revisions are left out.

    `reply` is the one that the critique is about, `request` the id of its principle.
    """
    rows = [
        Assessment(
            prompt=row.prompt.id,
            cluster=row.prompt.cluster,
            kind=row.prompt.kind,
            player=f"{player}@{row.round}",
            sequences=row.round,
            metrics=check(row.principle, row.previous, row.critique),
        )
        for player, folder in revisions.items()
        for row in read_rows(folder, Revision)
        if row.critique is not None
    ]
    if not rows:
        raise ValueError("revisions: none of them has a critique; direct revisions have nothing to check")
    write_rows(out, rows)
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """A row a critique; no model is asked."""
    return Estimate(sum(given.rows for given in recipe["revisions"].values()))
