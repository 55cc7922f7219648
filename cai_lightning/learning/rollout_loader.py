"""What a PPO iteration has collected, and the loader that cuts minibatches from it."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from cai_lightning.learning.ppo import RolloutBatch
from cai_lightning.models.packing import Packed, Route, Tree, pack


class Read(NamedTuple):
    """A pass over the replies of this process, those of its `trees` in this order: what there is of their steps, in a
    row, with its graph.
    """

    packed: Packed
    trees: list[int]
    logps: Tensor
    values: Tensor
    entropy: Tensor


class Rollouts(NamedTuple):
    """An iteration's replies, of all processes, several to a prompt one after the other, and what PPO needs of their
    steps.

    `read` is a pass that is to learn from them, where there is one with its graph.
    """

    trees: list[Tree]
    mask: Tensor
    old_logps: Tensor
    old_values: Tensor
    reference: Tensor
    advantages: Tensor
    returns: Tensor
    read: Read | None = None

    @property
    def steps(self) -> tuple[Tensor, ...]:
        """What there is of every step [reply, step]."""
        return self[1:7]


def rows_of(trees: Sequence[int], samples: int) -> list[int]:
    """The numbers of the replies of trees."""
    return [tree * samples + branch for tree in trees for branch in range(samples)]


class RolloutLoader:
    """Iterating is one PPO iteration: collect, then `ppo_epochs` shuffled passes in minibatches of `minibatch` rows.

    Of several processes each gives out its part of every minibatch. Lightning sees an ordinary iterable of known
    length, so clipping, accumulation and precision stay automatic. The iteration is the module's epoch. `asked` is
    called before each. Minibatches that the trainer accumulates are one to the weights of their tokens; ValueError
    where an iteration does not end with a whole step of them.
    """

    def __init__(
        self,
        module: LightningModule,
        collect: Callable[[int], Rollouts],
        *,
        rollouts: int,
        samples: int,
        minibatch: int,
        ppo_epochs: int,
        route: Route,
        seed: int,
    ) -> None:
        if rollouts % minibatch or minibatch % samples:
            raise ValueError(
                f"rollouts ({rollouts}) must be a multiple of minibatch ({minibatch}), and that of samples ({samples})"
            )
        self._module = module
        self._collect = collect
        self._rollouts = rollouts
        self._samples = samples
        self._minibatch = minibatch
        self._ppo_epochs = ppo_epochs
        self._route: Route = route
        self._seed = seed
        self._rank, self._processes = 0, 1
        self.asked: Callable[[int], None] = lambda _: None

    def part(self, rank: int, processes: int) -> RolloutLoader:
        """The loader of one of several processes, which gives out every so-many-th prompt of each minibatch.

        Raises ValueError where minibatches cannot be shared evenly.
        """
        if (together := self._minibatch // self._samples) % processes:
            raise ValueError(f"minibatch: has {together} prompts, which {processes} processes cannot share evenly")
        other = copy.copy(self)
        other._rank, other._processes = rank, processes
        return other

    def __len__(self) -> int:
        return self._ppo_epochs * self._rollouts // self._minibatch

    def __iter__(self) -> Iterator[RolloutBatch]:
        self.asked(0)
        iteration, accumulated = self._module.current_epoch, self._accumulated()
        prompts, together = self._rollouts // self._samples, self._minibatch // self._samples
        collected = self._collect(iteration)
        if (read := collected.read) is not None:
            mine = range(prompts)[self._rank :: self._processes]
            tokens = self._tokens(collected, range(prompts)) / self._processes
            yield self._batch(collected, [mine[tree] for tree in read.trees], tokens, read)
            return
        rng = random.Random(f"{self._seed}/{iteration}")
        orders = [rng.sample(range(prompts), prompts) for _ in range(self._ppo_epochs)]
        cut = [order[start : start + together] for order in orders for start in range(0, prompts, together)]
        for first in range(0, len(cut), accumulated):
            step = cut[first : first + accumulated]
            tokens = self._tokens(collected, [tree for chosen in step for tree in chosen]) / (
                accumulated * self._processes
            )
            for chosen in step:
                yield self._batch(collected, chosen[self._rank :: self._processes], tokens)

    def _accumulated(self) -> int:
        """The number of minibatches that make an optimizer step."""
        accumulated = int(self._module.trainer.accumulate_grad_batches)
        if len(self) % accumulated:
            raise ValueError(f"accumulate: {accumulated} does not divide the {len(self)} minibatches of an iteration")
        return accumulated

    def _tokens(self, collected: Rollouts, chosen: Sequence[int]) -> Tensor:
        """The number of tokens in the replies to the prompts so numbered."""
        return collected.mask[rows_of(chosen, self._samples)].sum()

    def _batch(
        self, collected: Rollouts, mine: Sequence[int], tokens: Tensor, read: Read | None = None
    ) -> RolloutBatch:
        """This process's part, the trees `mine`, of a minibatch, or of a step of several, of so many `tokens`."""
        return select(collected, mine, samples=self._samples, route=self._route, tokens=tokens, read=read)


def select(
    collected: Rollouts, trees: Sequence[int], *, samples: int, route: Route, tokens: Tensor, read: Read | None = None
) -> RolloutBatch:
    """The replies to the prompts so numbered, shortest prompts first, cut to the longest of them; those of a pass that
    was made in its order and whole.
    """
    chosen = list(trees) if read else sorted(trees, key=lambda number: len(collected.trees[number].prompt))
    rows = torch.tensor(rows_of(chosen, samples), device=collected.mask.device)
    width = int(collected.mask[rows].sum(1).max())
    packed = read.packed if read else pack([collected.trees[number] for number in chosen], route=route)
    steps = (whole[rows, :width] for whole in collected.steps)
    made = (read.logps, read.values, read.entropy) if read else None
    return RolloutBatch._make((packed, *steps, rows, tokens, made))
