"""Which rows make a batch, and a loader whose order depends on (seed, epoch) alone.

A batch holds rows up to a budget of tokens, without pads. The number of batches is the same in every epoch, which
step-wise schedules rely on.
"""

from __future__ import annotations

import bisect
import copy
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

Batch = TypeVar("Batch")


class Plan(Protocol):
    """Row lengths in tokens -> batches of row numbers in training order, each within `batch_tokens`."""

    def __call__(self, lengths: Sequence[int], *, batch_tokens: int, seed: int, epoch: int) -> list[list[int]]: ...


def length_buckets(
    lengths: Sequence[int], *, batch_tokens: int, multiple: int, seed: int, epoch: int
) -> list[list[int]]:
    """Batches of rows of similar length, shortest first in each: equal neighbours are attended to in one call.

    Rows whose lengths round up to one multiple of `multiple` are mixed anew each epoch, and so is the order of the
    batches. Raises ValueError where a single row exceeds the budget.
    """
    order, rng = _mixed(lengths, batch_tokens, seed, epoch)
    rounded = [-(-length // multiple) for length in lengths]
    order.sort(key=lambda row: rounded[row])
    # The cuts go by rounded lengths alone, so that they, hence the number of batches, are the same every epoch.
    batches: list[list[int]] = []
    for row in order:
        if batches and min(rounded[row] * multiple, batch_tokens) * (len(batches[-1]) + 1) <= batch_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    rng.shuffle(batches)
    return [sorted(batch, key=lambda row: lengths[row]) for batch in batches]


def in_order(
    lengths: Sequence[int], *, batch_tokens: int, multiple: int, rows: int, seed: int, epoch: int
) -> list[list[int]]:
    """The batches of `length_buckets` of every `rows` rows in turn: what stands first is learned first.

    Raises ValueError where a single row exceeds the budget.
    """
    _check(lengths, batch_tokens)
    return [
        [start + row for row in batch]
        for start in range(0, len(lengths), rows)
        for batch in length_buckets(
            lengths[start : start + rows], batch_tokens=batch_tokens, multiple=multiple, seed=seed, epoch=epoch
        )
    ]


def best_fit(lengths: Sequence[int], *, batch_tokens: int, seed: int, epoch: int) -> list[list[int]]:
    """As few batches as best-fit decreasing finds, each nearly full: rows of all lengths together.

    Rows of one length are mixed anew each epoch, and so is the order of the batches. Raises ValueError where a single
    row exceeds the budget.
    """
    order, rng = _mixed(lengths, batch_tokens, seed, epoch)
    order.sort(key=lambda row: -lengths[row])
    batches: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # room left and number of each batch, least room first
    for row in order:
        at = bisect.bisect_left(rooms, (lengths[row], -1))
        if at == len(rooms):
            batches.append([])
            room, number = batch_tokens, len(batches) - 1
        else:
            room, number = rooms.pop(at)
        batches[number].append(row)
        bisect.insort(rooms, (room - lengths[row], number))
    rng.shuffle(batches)
    return batches


def _check(lengths: Sequence[int], batch_tokens: int) -> None:
    if len(lengths) and (longest := max(lengths)) > batch_tokens:
        raise ValueError(
            f"row {list(lengths).index(longest)} has {longest} tokens, but batch_tokens is {batch_tokens}: raise "
            "batch_tokens or lower max_tokens"
        )


def _mixed(lengths: Sequence[int], batch_tokens: int, seed: int, epoch: int) -> tuple[list[int], random.Random]:
    _check(lengths, batch_tokens)
    rng = random.Random(f"{seed}/{epoch}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    return order, rng


class BatchLoader(Generic[Batch]):
    """A sized iterable of collated batches; every new iteration is the next epoch.

    `plan(epoch)` gives the batches as row numbers, `collate(rows, divisor)` makes one of them. The divisor is what a
    batch's summed loss is to be divided by: the total `mass` of its accumulation window, over `accumulate` (times the
    processes) because the trainer divides by that once more. So every token (or pair) of a window counts alike,
    partial windows included.

    `state_dict` holds the place within the epoch; after `load_state_dict` the next iteration goes on from there.
    Whenever the next batch is asked for, `asked` is called with the number of those given out in this epoch.
    """

    def __init__(
        self,
        plan: Callable[[int], list[list[int]]],
        collate: Callable[[list[int], float], Batch],
        mass: Sequence[float],
        *,
        accumulate: int,
    ) -> None:
        self._plan = plan
        self._collate = collate
        self._mass = mass
        self._accumulate = accumulate
        self._epoch = -1
        self._batch = 0
        self._resumed = False
        self._batches = len(plan(0))
        self._rank, self._processes = 0, 1
        self.asked: Callable[[int], None] = lambda _: None

    def part(self, rank: int, processes: int) -> BatchLoader[Batch]:
        """The share of one of several processes that average their gradients: each takes every so-many-th batch.

        A step of all of them is that of one process with as many more accumulated batches. Where the last round has no
        batch for a process it gets one that weighs nothing.
        """
        other = copy.copy(self)
        other._rank, other._processes = rank, processes
        return other

    def __len__(self) -> int:
        return -(-self._batches // self._processes)

    def __iter__(self) -> Iterator[Batch]:
        # Counted here, not behind the last batch: the trainer stops asking before a generator is exhausted.
        if not (self._resumed and self._batch < len(self)):
            self._epoch += 1
            self._batch = 0
        self._resumed = False
        batches = self._plan(self._epoch)
        for number in range(self._batch, len(self)):
            self.asked(number)
            self._batch = number + 1
            yield self._made(batches, number)

    def _made(self, batches: list[list[int]], number: int) -> Batch:
        """This process's batch of that number."""
        place = number * self._processes + self._rank
        if place >= len(batches):
            return self._collate(batches[-1], math.inf)
        step = self._step(batches, number)
        mass = sum(self._mass[row] for batch in step for row in batch)
        return self._collate(batches[place], mass / (self._accumulate * self._processes))

    def _step(self, batches: list[list[int]], number: int) -> list[list[int]]:
        """The batches, of all processes, of the optimizer step that this process's batch of that number is part of."""
        first = (number - number % self._accumulate) * self._processes
        return batches[first : first + self._accumulate * self._processes]

    def state_dict(self) -> dict[str, int]:
        """The epoch and the number of batches already given out in it."""
        return {"epoch": self._epoch, "batch": self._batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Makes the next iteration go on behind the last batch that was given out."""
        self._epoch, self._batch, self._resumed = state["epoch"], state["batch"], True
