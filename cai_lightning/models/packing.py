"""Texts as one row of tokens, without pads; what texts share at their beginning stands there once.

A tree is a prompt and the branches that go on from it: one text, a pair of replies, k samples. The first branch follows
its prompt at once, the others stand elsewhere, and a branch sees the prompt and itself. Layouts know no model.
"""
# ruff: noqa: F722 - the quoted names are jaxtyping dimensions

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

Tokens = Sequence[int] | NDArray[Any] | Tensor
Route = Literal["packed", "padded"]
"""How a model reads a packed row: as it is, or as right-padded texts, each with its own copy of what it shares."""


class Tree(NamedTuple):
    """A prompt, which may be empty, and one or more branches."""

    prompt: Tokens
    branches: Sequence[Tokens]


class Segment(NamedTuple):
    """Places `start` to `stop` of a row, which see themselves causally and all of `context_start` to `context_stop`."""

    start: int
    stop: int
    context_start: int
    context_stop: int


@dataclass(frozen=True)
class Packed:
    """A row of tokens: ids, positions in their texts, and the place of the token before each, -1 where there is none.

    `branches` [branch, 2] are the places where branches start and stop, in the order of the trees, on the CPU. `trees`
    says of each segment its tree and branch.
    """

    ids: Int64[Tensor, " token"]
    positions: Int64[Tensor, " token"]
    previous: Int64[Tensor, " token"]
    branches: Int64[Tensor, "branch 2"]
    segments: tuple[Segment, ...]
    trees: tuple[tuple[int, int], ...]
    route: Route

    def to(self, device: torch.device | str, **_: object) -> Packed:
        """The row on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("ids", "positions", "previous")}
        return replace(self, **moved)


class _Part(NamedTuple):
    """A segment before it has a place: its tree and branch, and how many of its tree's tokens stand before it."""

    tree: int
    branch: int
    tokens: Tensor
    behind: int


def pack(trees: Sequence[Tree], *, route: Route = "packed") -> Packed:
    """One row of the trees. Raises ValueError on a tree without a branch, a branch without a token.

    Each prompt with its first branch comes before all other branches, and either kind by length: attention takes
    neighbours of equal length in one call. The other branches of one tree are neighbours.
    """
    parts = _parts(trees)
    starts: dict[tuple[int, int], int] = {}
    segments: list[Segment] = []
    positions: list[Tensor] = []
    previous: list[Tensor] = []
    at = 0
    for tree, branch, tokens, behind in parts:
        start = starts[tree, branch] = at
        at += len(tokens)
        trunk = starts[tree, 0] if branch else start
        segments.append(Segment(start, at, trunk, trunk + behind))
        place = torch.arange(start, at)
        positions.append(place - start + behind)
        before = place - 1
        before[0] = trunk + behind - 1 if behind else -1
        previous.append(before)
    branches = []
    for number, (prompt, tails) in enumerate(trees):
        for branch, tail in enumerate(tails):
            start = starts[number, branch] + (0 if branch else len(prompt))
            branches.append((start, start + len(tail)))
    empty = [torch.zeros(0, dtype=torch.int64)]
    return Packed(
        ids=torch.cat([part.tokens for part in parts] or empty),
        positions=torch.cat(positions or empty),
        previous=torch.cat(previous or empty),
        branches=torch.tensor(branches, dtype=torch.int64).view(-1, 2),
        segments=tuple(segments),
        trees=tuple((tree, branch) for tree, branch, *_ in parts),
        route=route,
    )


def _parts(trees: Sequence[Tree]) -> list[_Part]:
    trunks: list[_Part] = []
    others: list[list[_Part]] = []
    for number, (prompt, tails) in enumerate(trees):
        if not tails or not all(map(len, tails)):
            raise ValueError(f"tree {number}: has an empty branch, or none; every text needs a token")
        first, *rest = map(_tensor, tails)
        trunks.append(_Part(number, 0, torch.cat([_tensor(prompt), first]) if len(prompt) else first, 0))
        if rest:
            forks = [_Part(number, branch, tail, len(prompt)) for branch, tail in enumerate(rest, 1)]
            others.append(sorted(forks, key=lambda part: len(part.tokens)))
    trunks.sort(key=lambda part: len(part.tokens))
    others.sort(key=lambda forks: len(forks[0].tokens))
    return [*trunks, *(fork for forks in others for fork in forks)]


def _tensor(tokens: Tokens) -> Tensor:
    return tokens.to(torch.int64) if isinstance(tokens, Tensor) else torch.from_numpy(np.array(tokens, np.int64))


def places(packed: Packed) -> Int64[Tensor, " token"]:
    """The places of all branches' tokens, branch after branch, on the CPU."""
    ranges = [torch.arange(start, stop) for start, stop in packed.branches.tolist()]
    return torch.cat(ranges) if ranges else torch.zeros(0, dtype=torch.int64)


def owners(packed: Packed) -> Int64[Tensor, " token"]:
    """The number of the branch of every entry of `places`, on the CPU."""
    lengths = packed.branches[:, 1] - packed.branches[:, 0]
    return torch.repeat_interleave(torch.arange(len(lengths)), lengths)


def texts(packed: Packed) -> list[Int64[Tensor, " length"]]:
    """The places of each branch's whole text, its prompt's included, branch after branch, on the CPU."""
    order = sorted(range(len(packed.segments)), key=lambda number: packed.trees[number])
    found = []
    for start, stop, context_start, context_stop in (packed.segments[number] for number in order):
        found.append(torch.cat([torch.arange(context_start, context_stop), torch.arange(start, stop)]))
    return found
