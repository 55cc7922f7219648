"""Which prompts are read in one pass, and which rows keep their keys and values in one block."""

from __future__ import annotations

from collections.abc import Sequence

# A cohort takes rows whose empty columns together cost less to read than another call of attention.
_EMPTY_BYTES = 1 << 17
# The keys of a prompt are kept once for all of its rows where that saves so many columns: below, its calls cost more.
SAVED = 512


def pieces(texts: Sequence[tuple[int, ...]], tokens: int) -> list[list[tuple[int, ...]]]:
    """Texts in pieces of about so many tokens, in order."""
    found: list[list[tuple[int, ...]]] = []
    room = 0
    for text in texts:
        if not found or len(text) > room:
            found.append([])
            room = tokens
        found[-1].append(text)
        room -= len(text)
    return found


def families(tails: Sequence[tuple[int, ...]]) -> dict[int, list[list[int]]]:
    """Rows by number, those of one prompt together where its keys are kept once, by how many rows that are."""
    same: dict[tuple[int, ...], list[int]] = {}
    for row, tail in enumerate(tails):
        same.setdefault(tail, []).append(row)
    found: dict[int, list[list[int]]] = {}
    for tail, rows in same.items():
        together = [rows] if (len(rows) - 1) * len(tail) >= SAVED else [[row] for row in rows]
        found.setdefault(len(together[0]), []).extend(together)
    return found


def alike(lengths: Sequence[int], column_bytes: int) -> list[list[int]]:
    """Rows by number, in parts of about one length: a row joins while the empty columns of all stay cheap to read."""
    parts: list[list[int]] = []
    empty = 0
    for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        if parts:
            empty += (lengths[row] - lengths[parts[-1][-1]]) * len(parts[-1])
        if parts and empty * column_bytes <= _EMPTY_BYTES:
            parts[-1].append(row)
        else:
            parts.append([row])
            empty = 0
    return parts
