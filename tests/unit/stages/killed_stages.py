"""What a stage leaves that was killed after its first chunk, and whether it goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def same_after_a_kill(run: Callable[[Path], Any], whole: Path, done: int) -> None:
    """A run that finds its first chunk of `done` rows written keeps them and ends as one that was not disturbed.

    The chunk's rows are written with a blank more than the stage would write: rows that were made anew have none.
    """
    killed = whole.with_name("killed")
    for folder in (whole, killed):
        folder.mkdir()
    run(whole)
    lines = (whole / "rows.jsonl").read_text().splitlines(keepends=True)
    kept = [line.replace("{", "{ ", 1) for line in lines[:done]]
    (killed / "chunks").mkdir()
    (killed / "chunks" / "000000.jsonl").write_text("".join(kept))
    run(killed)
    assert (killed / "rows.jsonl").read_text().splitlines(keepends=True) == [*kept, *lines[done:]]
    assert (killed / "counts.json").read_bytes() == (whole / "counts.json").read_bytes()
    (whole / "counts.json").unlink()
    run(whole)  # killed between rows and counts
    assert (killed / "counts.json").read_bytes() == (whole / "counts.json").read_bytes()
