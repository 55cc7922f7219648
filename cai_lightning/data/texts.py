"""Plain texts, on which a model's loss says what training has cost it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from cai_lightning.data.reading import Fields, LeftOut, Read, Table, opened, text_of, usable, window
from cai_lightning.data.tables import file_table
from cai_lightning.text.artifacts import Source


def plain_texts(*, path: Source, field: str | None, limit: int | None) -> Read[str]:
    """The texts under `field` of a table file; with null, a text file as one text, or each "*.txt" of a folder.

    `limit` counts texts that say something; the others count as `empty`. Raises ValueError with file, line and cause.
    """
    dropped: Counter[str] = Counter()
    skipped: list[str] = []
    table = _files(Path(path)) if field is None else file_table(path=path, pattern=None)
    texts = usable(table, lambda row: _text(row, field or "text"), skip_bad=False, dropped=dropped, skipped=skipped)
    return Read(window(texts, 0, limit), dict(dropped))


def _files(path: Path) -> Table:
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{path}: no *.txt file in it; name a file, or the field of a table")
    for file in files:
        with opened(file) as content:
            yield str(file), _decoded(content.read())


def _decoded(content: bytes) -> dict[str, Any] | Exception:
    try:
        return {"text": content.decode("utf-8")}
    except UnicodeDecodeError as error:
        return error


def _text(row: Fields, field: str) -> str:
    text = text_of(row, field)
    if not text.strip():
        raise LeftOut("empty")
    return text
