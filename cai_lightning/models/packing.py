"""Texts as one row of tokens, without pads; what texts share at their beginning stands there once.

A tree is a prompt and the branches that go on from it: one text, a pair of replies, k samples. The first branch follows
its prompt at once, the others follow it, and a branch sees the prompt and itself. Layouts know no model.
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

    `branches` [branch, 2] are the places where branches start and stop, in the order of the trees, on the CPU.
    """

    ids: Int64[Tensor, " token"]
    positions: Int64[Tensor, " token"]
    previous: Int64[Tensor, " token"]
    branches: Int64[Tensor, "branch 2"]
    segments: tuple[Segment, ...]
    route: Route

    def to(self, device: torch.device | str, **_: object) -> Packed:
        """The row on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("ids", "positions", "previous")}
        return replace(self, **moved)


def pack(trees: Sequence[Tree], *, route: Route = "packed") -> Packed:
    """One row of the trees, in their order. Raises ValueError on a tree without a branch, a branch without a token."""
    ids: list[Tensor] = []
    positions: list[Tensor] = []
    previous: list[Tensor] = []
    branches: list[tuple[int, int]] = []
    segments: list[Segment] = []
    at = 0
    for number, (prompt, tails) in enumerate(trees):
        if not tails or not all(map(len, tails)):
            raise ValueError(f"tree {number}: has an empty branch, or none; every text needs a token")
        start, fork = at, at + len(prompt)
        ids += [_tensor(prompt)] if len(prompt) else []
        for first, tail in zip((True, *(False,) * (len(tails) - 1)), tails, strict=True):
            begin = fork if first else at
            at = begin + len(tail)
            ids.append(_tensor(tail))
            branches.append((begin, at))
            own = start if first else begin
            segments.append(Segment(own, at, start, own if first else fork))
            place = torch.arange(own, at)
            positions.append(place - (start if first else begin - len(prompt)))
            before = place - 1
            before[0] = -1 if first or fork == start else fork - 1
            previous.append(before)
    empty = [torch.zeros(0, dtype=torch.int64)]
    return Packed(
        ids=torch.cat(ids or empty),
        positions=torch.cat(positions or empty),
        previous=torch.cat(previous or empty),
        branches=torch.tensor(branches, dtype=torch.int64).view(-1, 2),
        segments=tuple(segments),
        route=route,
    )


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
    """The places of each branch's whole text, its prompt's included, on the CPU."""
    found = []
    for segment in packed.segments:
        context = torch.arange(segment.context_start, segment.context_stop)
        found.append(torch.cat([context, torch.arange(segment.start, segment.stop)]))
    return found
