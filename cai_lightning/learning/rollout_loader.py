"""What a PPO iteration has collected, and the loader that cuts minibatches from it."""

from __future__ import annotations

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
    called before each.
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
        self.asked: Callable[[int], None] = lambda _: None

    def __len__(self) -> int:
        return self._ppo_epochs * self._rollouts // self._minibatch

    def __iter__(self) -> Iterator[RolloutBatch]:
        self.asked(0)
        trainer = self._module.trainer
        iteration, rank, processes = self._module.current_epoch, trainer.global_rank, trainer.world_size
        prompts, together = self._rollouts // self._samples, self._minibatch // self._samples
        if together % processes:
            raise ValueError(f"minibatch has {together} prompts, which {processes} processes cannot share evenly")
        collected = self._collect(iteration)
        if (read := collected.read) is not None:
            mine = list(range(prompts))[rank::processes]
            yield self._batch(collected, range(prompts), [mine[tree] for tree in read.trees], processes, read)
            return
        rng = random.Random(f"{self._seed}/{iteration}")
        for _ in range(self._ppo_epochs):
            order = rng.sample(range(prompts), prompts)
            for start in range(0, prompts, together):
                chosen = order[start : start + together]
                yield self._batch(collected, chosen, chosen[rank::processes], processes)

    def _batch(
        self, collected: Rollouts, chosen: Sequence[int], mine: Sequence[int], processes: int, read: Read | None = None
    ) -> RolloutBatch:
        """This process's part, the trees `mine`, of the minibatch of the trees `chosen`."""
        tokens = collected.mask[rows_of(chosen, self._samples)].sum() / processes
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
