"""Rows made in fixed chunks: a killed stage goes on at the chunk where it was, and its bytes do not show it.

A chunk's composition depends on the row order alone, never on where a run was interrupted; each is written once,
synced and renamed, and at the end all are joined into `rows.jsonl`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from cai_lightning.text.records import ROWS, to_line

Item = TypeVar("Item")


def in_chunks(
    out: Path,
    items: Sequence[Item],
    *,
    size: int,
    work: Callable[[Sequence[Item]], Iterable[Any]],
    advance: Callable[[int], None],
) -> None:
    """Writes `out/rows.jsonl`: the rows that `work` makes of each `size` items, in order."""
    folder = out / "chunks"
    folder.mkdir(exist_ok=True)
    parts = []
    for start in range(0, len(items), size):
        part = folder / f"{start // size:06d}.jsonl"
        chunk = items[start : start + size]
        if not part.exists():
            _write(part, "".join(to_line(row) for row in work(chunk)))
        advance(len(chunk))
        parts.append(part)
    with (out / ROWS).open("wb") as rows:
        for part in parts:
            rows.write(part.read_bytes())
    shutil.rmtree(folder)


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
