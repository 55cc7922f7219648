"""Where rows come from: files of any tabular kind, and data sets of the Hugging Face hub.

A place is "file:line" for JSON Lines and "file:row N" for all others, N counting data rows from 1.
"""

from __future__ import annotations

import csv
import io
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cai_lightning.data.reading import Fields, Table, json_rows, json_value, opened
from cai_lightning.text.artifacts import Source

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_COMMIT = re.compile(r"[0-9a-f]{40}")
_Items = Iterator[dict[str, Any] | Exception]


def file_table(*, path: Source, pattern: str | None) -> Table:
    """The rows of a JSON Lines, JSON, parquet, CSV or TSV file; of a folder, those of its files that match `pattern`.

    A pattern such as "*/train.jsonl.gz" finds files by name, in the order of their names. CSV and TSV are known by
    their ending, the others by their content; all but parquet may be gzip. CSV cells are text, and its first row names
    the columns. Raises ValueError, one line with file and cause.
    """
    for file in _files(Path(path), pattern):
        yield from _rows(file)


def hub_table(*, hub_id: str, config: str | None, folder: str | None, split: str, revision: str) -> Table:
    """The rows of one split of a hub data set, as `datasets` reads them; `revision` is the commit, 40 hex digits.

    `folder` names a part of the data set that lies in a folder of its own, as hh-rlhf's subsets do.

    The hub is asked only if this run is online; else the data set must lie in the local cache of `datasets`. That
    cache is searched by id alone, so what it gives is compared with `revision`. Raises ValueError, one line.
    """
    name = f"{hub_id}@{revision[:8]}"
    if not _COMMIT.fullmatch(revision):
        raise ValueError(
            f"{hub_id}: revision {revision!r} is no commit; branches move, so give the 40 hex digits that"
            f" https://huggingface.co/datasets/{hub_id}/commits shows"
        )
    if Path(hub_id).exists():
        raise ValueError(f"{hub_id}: is a path here, which would hide the hub's; read it with file_table")
    import datasets

    try:
        rows = datasets.load_dataset(hub_id, config, data_dir=folder, split=split, revision=revision)
    except Exception as error:  # the library raises of its own, of httpx and of the system; all leave no table
        raise ValueError(f"{name}: {_unreachable(error)}") from None
    files = [Path(entry["filename"]) for entry in rows.cache_files]
    if files and not any(revision in file.parts for file in files):
        raise ValueError(
            f"{name}: the hub did not answer and the cache holds another revision; set runtime.online=true"
        )
    return dataset_table(rows, name=f"{name}/{split}")


def dataset_table(rows: Iterable[Fields], *, name: str) -> Table:
    """The rows of a loaded data set, or of any run of mappings; `name` stands in their places."""
    return ((f"{name}:row {number}", dict(row)) for number, row in enumerate(rows, start=1))


def _unreachable(error: Exception) -> str:
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return (
            "is not in the local cache and the hub is off; set runtime.online=true,"
            " or save it as a file and read that with file_table"
        )
    return f"cannot be loaded: {str(error).splitlines()[0] if str(error) else type(error).__name__}"


def _files(path: Path, pattern: str | None) -> list[Path]:
    if pattern is None:
        if path.is_dir():
            raise ValueError(f"{path}: is a folder; name a file, or give the pattern of its files, as in '*.jsonl'")
        return [path]
    found = sorted(file for file in path.glob(pattern) if file.is_file())
    if not found:
        raise ValueError(f"{path}: no file matches {pattern!r}")
    return found


def _rows(path: Path) -> Table:
    ending = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    head = _head(path)
    if ending in _DELIMITERS:
        yield from _numbered(path, _csv(path, _DELIMITERS[ending]))
    elif head.startswith(b"PAR1"):
        yield from _numbered(path, _parquet(path))
    elif head.lstrip().startswith(b"["):
        yield from _numbered(path, _json_list(path))
    else:
        yield from json_rows(path)


def _head(path: Path) -> bytes:
    """The first bytes of a file; none of a torn one, which is read as JSON Lines and explained there."""
    try:
        with opened(path) as file:
            return file.read(4096)
    except (OSError, EOFError, zlib.error):
        return b""


def _numbered(path: Path, rows: _Items) -> Table:
    """Rows with their places; what spoils the whole file is one line with its name."""
    number = 0
    try:
        for number, row in enumerate(rows, start=1):
            yield f"{path}:row {number}", row
    except (OSError, EOFError, zlib.error, csv.Error, ValueError) as error:
        cause = str(error).splitlines()[0]
        raise ValueError(f"{path}:row {number + 1}: cannot be read: {cause}; fetch or write the file again") from None


def _csv(path: Path, delimiter: str) -> _Items:
    csv.field_size_limit(sys.maxsize)  # the usual 131,072 characters are fewer than a long dialogue has
    with opened(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        names = next(reader, [])
        if len(set(names)) < len(names):
            raise ValueError(f"a column is named twice in {', '.join(names)}")
        for cells in reader:
            if not cells:  # a blank line is no row
                continue
            if len(cells) != len(names):
                yield ValueError(
                    f"has {len(cells)} cells under {len(names)} columns; quote cells that hold {delimiter!r}"
                )
            else:
                yield dict(zip(names, cells, strict=True))


def _parquet(path: Path) -> _Items:
    import pyarrow.parquet as parquet  # type: ignore[import-untyped]

    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches():
            yield from batch.to_pylist()


def _json_list(path: Path) -> _Items:
    with opened(path) as file:
        items = json_value(file.read().decode("utf-8"))
    for item in items:
        yield item if isinstance(item, dict) else ValueError(f"must be a JSON object, is {item!r:.60}")
