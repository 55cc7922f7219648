"""Revision chains from readers: files that others have written, in place of a sampling stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate, from_readers
from cai_lightning.text.artifacts import RevisionRows
from cai_lightning.text.records import Revision


def run(out: Path, *, readers: list[Sequence[Revision]]) -> RevisionRows:
    """Revision rows, the readers' one after the other. Raises ValueError when there is none."""
    from cai_lightning.stages.reading import write_all

    write_all(out, readers, "revisions")
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """The rows that the readers are limited to."""
    return from_readers(recipe["readers"], 4)
