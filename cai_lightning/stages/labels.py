"""Labelled comparisons from readers: files of human preferences, or the micro-world's simulated annotators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cai_lightning.text.artifacts import LabelRows
from cai_lightning.text.records import Label


def run(out: Path, *, readers: list[Sequence[Label]]) -> LabelRows:
    """Label rows, the readers' one after the other. Raises ValueError when there is none."""
    from cai_lightning.stages.reading import write_all

    write_all(out, readers, "labels")
    return out
