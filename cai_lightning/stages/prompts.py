"""Prompts from readers: the micro-world's grammar, or files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cai_lightning.text.artifacts import PromptRows
from cai_lightning.text.records import Prompt


def run(out: Path, *, readers: list[Sequence[Prompt]]) -> PromptRows:
    """Prompt rows, the readers' one after the other. Raises ValueError when there is none."""
    from cai_lightning.stages.reading import write_all

    write_all(out, readers, "prompts")
    return out
