"""What prompts have in common at their beginning, found in their ids: it is read once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

Ids = Sequence[int]


class Group(NamedTuple):
    """Rows by number, whose first `length` ids are the same."""

    rows: tuple[int, ...]
    length: int


def by_prefix(prompts: Sequence[Ids], *, least: int, multiple: int) -> list[Group]:
    """The rows in groups, each with what its rows share, so that few tokens are read: neighbours are joined greedily.

    What is shared has at least `least` ids, else nothing; it is cut to a `multiple`, so that a chance likeness of a few
    rows' next words makes no prefix of its own; and it leaves each row an id of its own. Groups and their rows are in
    the order of their ids, those that share nothing in a last group. A function of the prompts alone.
    """
    order = sorted(range(len(prompts)), key=lambda row: (list(prompts[row]), row))
    shared = [_common(prompts[a], prompts[b]) for a, b in pairwise(order)]
    # Neighbours are joined by what they share, most first; a span is one group where that saves more than its parts do.
    spans: dict[int, _Span] = {}  # by their first and by their last place, both
    for at, row in enumerate(order):
        spans[at] = _Span(at, at, len(prompts[row]) - 1, 0, [Group((row,), 0)])
    for at in sorted(range(len(shared)), key=lambda place: (-shared[place], place)):
        left, right = spans[at], spans[at + 1]
        room = min(left.room, right.room, shared[at])
        length = room // multiple * multiple if room >= least else 0
        whole, apart = (right.last - left.first) * length, left.saved + right.saved
        groups = [*left.groups, *right.groups]
        if length and whole >= apart:
            groups = [Group(tuple(order[left.first : right.last + 1]), length)]
        joined = _Span(left.first, right.last, room, max(whole, apart), groups)
        spans[joined.first] = spans[joined.last] = joined
    found = spans[0].groups if order else []
    alone = tuple(row for group in found if not group.length for row in group.rows)
    return [group for group in found if group.length] + ([Group(alone, 0)] if alone else [])


class _Span(NamedTuple):
    """Neighbouring rows: places, the longest prefix that they may share, the ids that their groups save."""

    first: int
    last: int
    room: int
    saved: int
    groups: list[Group]


def _common(a: Ids, b: Ids) -> int:
    """How many ids two rows share at their beginning; by halves, since comparing slices is quick."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
