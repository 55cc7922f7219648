"""Labelled pairs as comparisons: what a file of human preferences compares, without what the humans said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import ComparisonRows, LabelRows
from cai_lightning.text.records import Comparison, Label, read_rows, write_rows


def run(out: Path, *, labels: LabelRows) -> ComparisonRows:
    """Comparison rows in the order of the labels, with their ids; nobody is known to have sampled the replies."""
    write_rows(
        out,
        (
            Comparison(
                id=row.id,
                prompt=row.prompt,
                a=row.a,
                b=row.b,
                source=row.source,
                model="",
                temperature=0.0,
                seed=0,
                ended=row.ended,
            )
            for row in read_rows(labels, Label)
        ),
    )
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """One comparison a label."""
    given = recipe["labels"]
    return Estimate(given.rows, length=given.length, prompts=given.prompts)
