"""Labels of sampled comparisons by an annotator: a function from comparisons to labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cai_lightning.text.artifacts import ComparisonRows, LabelRows
from cai_lightning.text.records import Comparison, Label, read_rows, write_rows

Annotator = Callable[[Sequence[Comparison]], Sequence[Label]]


def run(out: Path, *, comparisons: ComparisonRows, annotator: Annotator) -> LabelRows:
    """Label rows in the order of the comparisons."""
    write_rows(out, annotator(read_rows(comparisons, Comparison)))
    return out
