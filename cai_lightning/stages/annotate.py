"""Labels of sampled comparisons by an annotator: a function from comparisons to labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import ComparisonRows, LabelRows
from cai_lightning.text.records import Comparison, Label, read_rows, write_rows

Annotator = Callable[[Sequence[Comparison]], Sequence[Label]]


def run(out: Path, *, comparisons: ComparisonRows, annotator: Annotator) -> LabelRows:
    """Label rows in the order of the comparisons."""
    write_rows(out, annotator(read_rows(comparisons, Comparison)))
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """One label a comparison."""
    given = recipe["comparisons"]
    return Estimate(given.rows, length=given.length, prompts=given.rows)
