"""Tables as CSV files: UTF-8, a header, one row a line, an empty cell where a value is unavailable."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Sheet(NamedTuple):
    """A table: its columns, and its rows by column."""

    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]


def csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows' values under `columns`, as they are: no rounding. Raises ValueError on other keys."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Path:
    """The file with that text."""
    path.write_text(csv_text(columns, rows), encoding="utf-8", newline="")
    return path
