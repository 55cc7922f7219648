"""Replies rated alone, from readers: files of people's yes and no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate, from_readers
from cai_lightning.text.artifacts import RatingRows
from cai_lightning.text.records import Rating


def run(out: Path, *, readers: list[Sequence[Rating]]) -> RatingRows:
    """Rating rows, the readers' one after the other. Raises ValueError when there is none."""
    from cai_lightning.stages.reading import write_all

    write_all(out, readers, "ratings")
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """The rows that the readers are limited to; each holds a prompt and a reply."""
    return from_readers(recipe["readers"], 2)
