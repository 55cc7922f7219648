"""Rows made in fixed chunks: a killed stage goes on at the chunk where it was, and its bytes do not show it.

A chunk's composition depends on the row order alone, never on where a run was interrupted; each is written once,
synced and renamed, and so is `rows.jsonl`, into which all are joined at the end: where it exists it is whole.
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
    """Writes `out/rows.jsonl`: the rows that `work` makes of each `size` > 0 items, in order."""
    if size < 1:
        raise ValueError(f"chunk: {size} given, but at least 1 row is wanted")
    folder = out / "chunks"
    if (out / ROWS).exists():
        advance(len(items))
        shutil.rmtree(folder, ignore_errors=True)
        return
    folder.mkdir(exist_ok=True)
    parts = []
    for start in range(0, len(items), size):
        part = folder / f"{start // size:06d}.jsonl"
        chunk = items[start : start + size]
        if not part.exists():
            _write(part, ["".join(to_line(row) for row in work(chunk)).encode()])
        advance(len(chunk))
        parts.append(part)
    join(out, parts)
    shutil.rmtree(folder)


def join(out: Path, parts: Iterable[Path]) -> None:
    """Writes `out/rows.jsonl` whole: the bytes of the files `parts`, one after the other."""
    _write(out / ROWS, (part.read_bytes() for part in parts))


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
