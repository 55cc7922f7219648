"""What readers give: rows, or rows with counts of what was left out; and the counts file beside the rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cai_lightning.text.records import write_rows

COUNTS = "counts.json"


def write_all(out: Path, readings: Sequence[Any], what: str) -> None:
    """Writes the rows of all readers, in order, and `counts.json`. Raises ValueError when there is no row at all.

    The counts are of rows, of their sources, of rows left out by reason; `skipped` is the place and fault of bad ones.
    """
    rows = [row for reading in readings for row in getattr(reading, "rows", reading)]
    dropped: Counter[str] = Counter()
    for reading in readings:
        dropped.update(getattr(reading, "dropped", {}))
    if not rows:
        raise ValueError(f"{what}: the readers found no row; check their paths and limits (dropped: {dict(dropped)})")
    sources = Counter(row.source if hasattr(row, "source") else row.prompt.source for row in rows)
    write_rows(out, rows)
    write_counts(
        out,
        {
            "rows": len(rows),
            "sources": dict(sorted(sources.items())),
            "dropped": dict(sorted(dropped.items())),
            "skipped": [place for reading in readings for place in getattr(reading, "skipped", [])],
        },
    )


def write_counts(out: Path, counts: dict[str, Any]) -> None:
    """Writes `counts.json`: what was kept, cut, dropped and why."""
    (out / COUNTS).write_text(json.dumps(counts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
