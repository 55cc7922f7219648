"""Tables made from tables: fewer rows, cells unpacked, two rows made one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cai_lightning.data.reading import Fields, LeftOut, Table, json_value, text_of, value_of


def equal(*, table: Table, column: str, value: Any) -> Table:
    """The rows that hold `value` under `column`; the others count as "not COLUMN"."""
    return _filtered(table, lambda row: value_of(row, column) == value, f"not {column}")


def between(*, table: Table, column: str, low: float | None, high: float | None) -> Table:
    """The rows whose number under `column` lies in [low, high], null being no bound; the others count as "not COLUMN".

    Red-team transcripts are chosen so by their rating or harmlessness score.
    """

    def inside(row: Fields) -> bool:
        number = number_of(row, column)
        return (low is None or number >= low) and (high is None or number <= high)

    return _filtered(table, inside, f"not {column}")


def decoded(*, table: Table, columns: list[str]) -> Table:
    """The rows with what the JSON text of `columns` says in its place: message lists in a CSV file."""
    return _changed(table, lambda row: {**row, **{name: json_value(text_of(row, name)) for name in columns}})


def alternating(*, table: Table, column: str) -> Table:
    """Rows {chosen, rejected} of a table in which one comes after the other, as in NeMo's reward model files."""
    return _changed(_twos(table), lambda two: {side: text_of(row, column) for side, row in two.items()})


def number_of(row: Fields, column: str) -> float:
    """The number under `column`, which a CSV cell may spell. Raises ValueError where there is none."""
    value = value_of(row, column)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{column!r} must be a number, is {value!r:.60}") from None


def _twos(table: Table) -> Table:
    rows = iter(table)
    for place, first in rows:
        alone = (place, ValueError("is the last row and has no partner; chosen and rejected rows must alternate"))
        _, second = next(rows, alone)
        faults = [row for row in (first, second) if isinstance(row, Exception)]
        yield place, faults[0] if faults else {"chosen": first, "rejected": second}


def _filtered(table: Table, keep: Callable[[Fields], bool], reason: str) -> Table:
    def kept(row: dict[str, Any]) -> dict[str, Any]:
        if not keep(row):
            raise LeftOut(reason)
        return row

    return _changed(table, kept)


def _changed(table: Table, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Table:
    for place, row in table:
        try:
            yield place, row if isinstance(row, Exception) else change(row)
        except (LeftOut, ValueError) as fault:
            yield place, fault
