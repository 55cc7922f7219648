"""JSON Lines of outside origin, plain or gzip, read strictly: the first bad line is one error with its place."""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, Protocol, TypeVar


class Identified(Protocol):
    """A row with an id."""

    @property
    def id(self) -> str:
        """What makes two rows the same row."""


Row = TypeVar("Row")
Known = TypeVar("Known", bound=Identified)
_GZIP = b"\x1f\x8b"
_LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class Read(Generic[Row]):
    """The rows of a source and how many were left out, by reason."""

    rows: list[Row]
    dropped: dict[str, int]


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("file:line", object) of every line, split at "\\n" only.

    Raises ValueError, one line with file, line and cause: not UTF-8, not JSON, not an object, a key given twice,
    a Git LFS pointer in place of the file, a gzip stream that ends early.
    """
    number = 0
    try:
        with _open(Path(path)) as file:
            for number, line in enumerate(file, start=1):
                yield f"{path}:{number}", _object(line)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; check the folder that the data are configured in") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}:{number + 1}: cannot be read: {error}; fetch the file again") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{number}: not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}{f':{number}' if number else ''}: {error}") from None


def text_field(row: dict[str, Any], key: str, place: str) -> str:
    """The text under `key`. Raises ValueError where it is missing, no text, or holds half a surrogate pair."""
    if key not in row:
        raise ValueError(f"{place}: no key {key!r}; found {', '.join(row) or 'none'}")
    value = row[key]
    if not isinstance(value, str):
        raise ValueError(f"{place}: {key!r} must be text, is {value!r:.60}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{place}: {key!r} holds half a surrogate pair, which is not text; repair the line") from None
    return value


def distinct(rows: Iterable[Known], dropped: Counter[str]) -> Iterator[Known]:
    """The first row of every id; the others count as `duplicate`."""
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            dropped["duplicate"] += 1
        else:
            seen.add(row.id)
            yield row


def window(rows: Iterable[Row], skip: int, limit: int | None) -> list[Row]:
    """The rows `skip` to `skip + limit`; null is no limit. Later rows are not read."""
    return list(itertools.islice(rows, skip, None if limit is None else skip + limit))


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    """The bytes of a file, unpacked if they are gzip: by content, since downloads may be renamed or unpacked."""
    with path.open("rb") as file:
        head = file.read(len(_LFS))
    if head == _LFS:
        raise ValueError("is a Git LFS pointer, not the data; fetch the content with `git lfs pull`")
    return gzip.open(path, "rb") if head.startswith(_GZIP) else path.open("rb")


def _object(line: bytes) -> dict[str, Any]:
    value = json.loads(line.rstrip(b"\r\n").decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    if not isinstance(value, dict):
        raise ValueError(f"must be a JSON object, is {value!r:.60}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return dict(pairs)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
