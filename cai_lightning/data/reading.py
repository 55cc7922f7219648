"""Tables of outside origin, read strictly: the first bad row is one error with its place, or all of them are listed.

A table is a run of (place, row); what stands where a row cannot be read is the error that says why. JSON Lines, plain
or gzip, are read here, all other kinds of table in `tables`.
"""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Generic, Protocol, TypeVar


class Identified(Protocol):
    """A row with an id."""

    @property
    def id(self) -> str:
        """What makes two rows the same row."""


class LeftOut(Exception):
    """A sound row that is of no use here; the message is the reason that it is counted under."""


Fields = Mapping[str, Any]
Table = Iterable[tuple[str, dict[str, Any] | Exception]]
Row = TypeVar("Row")
Known = TypeVar("Known", bound=Identified)
_GZIP = b"\x1f\x8b"
_LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class Read(Generic[Row]):
    """The rows of a source, how many were left out by reason, and the place and fault of every bad row skipped."""

    rows: list[Row]
    dropped: dict[str, int]
    skipped: list[str] = field(default_factory=list)


def usable(
    table: Table, make: Callable[[Fields], Row], *, skip_bad: bool, dropped: Counter[str], skipped: list[str]
) -> Iterator[Row]:
    """What `make` gives for each row of a table, `LeftOut` rows counted under their reason.

    A bad row, one whose reading or making raises ValueError, ends the reading with file, line and cause. With
    `skip_bad` it counts as `bad_row` and is listed in `skipped`.
    """
    for place, row in table:
        try:
            if isinstance(row, Exception):
                raise row
            made = make(row)
        except LeftOut as reason:
            dropped[str(reason)] += 1
        except ValueError as error:
            if not skip_bad:
                raise ValueError(f"{place}: {error}") from None
            dropped["bad_row"] += 1
            skipped.append(f"{place}: {error}")
        else:
            yield made


def collected(
    table: Table, make: Callable[[Fields], Known], *, skip: int, limit: int | None, skip_bad: bool
) -> Read[Known]:
    """The distinct usable rows of a table, `skip` and `limit` counting them."""
    dropped: Counter[str] = Counter()
    skipped: list[str] = []
    made = usable(table, make, skip_bad=skip_bad, dropped=dropped, skipped=skipped)
    rows = window(distinct(made, dropped), skip, limit)
    return Read(rows, dict(dropped), skipped)


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("file:line", object) of every line, split at "\\n" only.

    Raises ValueError, one line with file, line and cause: not UTF-8, not JSON, not an object, a key given twice,
    a Git LFS pointer in place of the file, a gzip stream that ends early.
    """
    for place, row in json_rows(path):
        if isinstance(row, Exception):
            raise ValueError(f"{place}: {row}") from None
        yield place, row


def json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any] | Exception]]:
    """The lines of `json_lines` as a table: a bad line is its error. What spoils the whole file is still raised."""
    number = 0
    try:
        with opened(Path(path)) as file:
            for number, line in enumerate(file, start=1):
                yield f"{path}:{number}", _object(line)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}:{number + 1}: cannot be read: {error}; fetch the file again") from None


def text_of(row: Fields, key: str) -> str:
    """The text under `key`. Raises ValueError where it is missing, no text, or holds half a surrogate pair."""
    return as_text(value_of(row, key), key)


def value_of(row: Fields, key: str) -> Any:
    """What stands under `key`. Raises ValueError where the key is missing."""
    if key not in row:
        raise ValueError(f"no key {key!r}; found {', '.join(row) or 'none'}")
    return row[key]


def as_text(value: object, key: str) -> str:
    """The value as the text it must be; `key` names it in the errors."""
    if not isinstance(value, str):
        raise ValueError(f"{key!r} must be text, is {value!r:.60}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{key!r} holds half a surrogate pair, which is not text; repair the line") from None
    return value


def text_field(row: Fields, key: str, place: str) -> str:
    """`text_of` for readers that know the row's place; it stands before the error."""
    try:
        return text_of(row, key)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


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


def opened(path: Path) -> BinaryIO | gzip.GzipFile:
    """The bytes of a file, unpacked if they are gzip: by content, since downloads may be renamed or unpacked.

    Raises ValueError where there is no such file, or a Git LFS pointer in its place.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_LFS))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; check the folder that the data are configured in") from None
    if head == _LFS:
        raise ValueError(f"{path}: is a Git LFS pointer, not the data; fetch the content with `git lfs pull`")
    return gzip.open(path, "rb") if head.startswith(_GZIP) else path.open("rb")


def json_value(text: str) -> Any:
    """The value of a JSON text. Raises ValueError: not JSON, a key given twice, NaN."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column" if error.lineno > 1 else "column"
        raise ValueError(f"not JSON: {error.msg} at {where} {error.colno}") from None
    except RecursionError as error:
        raise ValueError(str(error)) from None


def _object(line: bytes) -> dict[str, Any] | Exception:
    try:
        value = json_value(line.rstrip(b"\r\n").decode("utf-8"))
    except ValueError as error:
        return error
    return value if isinstance(value, dict) else ValueError(f"must be a JSON object, is {value!r:.60}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return dict(pairs)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
