"""What watches over a fit: step-keyed randomness, non-finite numbers, and the assertions on the first batch.

Callbacks here observe and stop; they compute nothing that a loss needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from cai_lightning.learning.processes import full
from cai_lightning.learning.tracking import due


class StepSeed(Callback):  # type: ignore[misc]
    """Makes dropout and the like a function of (seed, epoch, batch), so that a resumed run draws the same."""

    def __init__(self, *, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Seeds torch for this batch."""
        # the number of the batch among those of all processes
        number = batch_idx * trainer.world_size + trainer.global_rank
        name = f"{self._seed}/{trainer.current_epoch}/{number}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1)


class FiniteGuard(Callback):  # type: ignore[misc]
    """Stops a fit before the update that a non-finite loss or gradient would spoil; logs `grad_norm` and `lr`."""

    def __init__(self) -> None:
        self._rows: list[Tensor] = []  # of this process's batches of the step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Remembers whose fault it would be."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._rows = []
        self._rows.append(getattr(batch, "rows", torch.tensor([])))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:  # noqa: ARG002
        """Raises ValueError naming the batch's rows where the loss is not finite."""
        self._check("loss", loss, trainer, self._rows[-1:])

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Raises ValueError naming the rows of the step's batches where the norm of the gradient is not finite."""
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        norm = full(torch.nn.utils.get_total_norm(gradients))
        if due(trainer):
            pl_module.log_dict({"grad_norm": norm, "lr": optimizer.param_groups[0]["lr"]})
        # A loss scaler meets infinite gradients by design, and skips them itself.
        if trainer.scaler is None:
            self._check("gradient norm", norm, trainer, self._rows)

    def _check(self, what: str, value: Tensor, trainer: Trainer, among: Sequence[Tensor]) -> None:
        if not torch.isfinite(value):
            rows = [row for batch in among for row in batch.tolist()]
            raise ValueError(
                f"{what} is {value.item()} at step {trainer.global_step}, before the update: look at rows {rows} "
                "of the training data, or lower the learning rate"
            )


class FirstBatch(Callback):  # type: ignore[misc]
    """Runs `check(batch)` on the first batch of a fit."""

    def __init__(self, check: Callable[[Any], None]) -> None:
        self._check = check

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Checks once."""
        if trainer.global_step == 0 and batch_idx == 0:
            self._check(batch)


class FirstLoss(Callback):  # type: ignore[misc]
    """Asserts the mean loss of the batches before the first update: that of policy = reference, ln 2 nats for DPO.

    `expected(batch)` is that loss, of which `tolerance` is a share. What is seen is the loss that is differentiated:
    with gradient accumulation, the batch's share of its window.
    """

    def __init__(self, *, expected: Callable[[Any], float], tolerance: float) -> None:
        self._of = expected
        self._expected = 0.0
        self._tolerance = tolerance
        self._share = 1.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Remembers the batch's share of its accumulation window, and what its loss should be."""
        if trainer.global_step == 0:
            self._expected = self._of(batch)
            self._share = (batch.weight.sum() / batch.divisor).item() / trainer.accumulate_grad_batches

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:  # noqa: ARG002
        """Raises ValueError where the first loss is off."""
        if trainer.global_step > 0 or self._share == 0:  # no share: a batch that only fills up another process's step
            return
        found = loss.item() / self._share
        if not abs(found - self._expected) <= self._tolerance * abs(self._expected):
            raise ValueError(
                f"the first loss is {found:.6f}, not {self._expected:.6f}: the reference log-probabilities "
                "are not those of this policy on these tokens; rebuild the reference stage"
            )


def check_supervision(
    rows: Iterable[tuple[Sequence[int], Sequence[float]]],
    *,
    bos: int | None,
    eos: int,
    is_prompt: Callable[[list[int]], bool],
    every_end: bool = True,
) -> None:
    """Raises ValueError unless every row is a prompt that is only read, then a reply that is learned to its end.

    A row is its ids and the weight of each. The supervised tokens are one run, whose last and only its last is `eos`;
    the ids before it satisfy `is_prompt` (say, they decode to a text that ends in "\n\nAssistant:"). `bos` is the id
    that prompts begin with, None where they begin with none: no row has it twice in a row (a template may write one
    before
    each turn), and some row begins with it (a prompt that is cut in the middle of its only turn does not). Without
    `every_end` a reply may lack its `eos`: it had not ended.
    """
    read = [(list(ids), list(weight)) for ids, weight in rows]
    for number, (ids, weight) in enumerate(read):
        name = f"row {number} of the first batch"
        supervised = [place for place, value in enumerate(weight) if value > 0]
        if not supervised:
            raise ValueError(f"{name} has no supervised token")
        first, last = supervised[0], supervised[-1]
        if len(supervised) != last - first + 1:
            raise ValueError(f"{name} has unsupervised tokens inside its reply")
        if every_end and ids[last] != eos:
            raise ValueError(f"{name} learns no end token ({eos}): its replies would not end")
        if eos in ids[first:last]:
            raise ValueError(f"{name} learns an end token ({eos}) inside its reply, or a pad behind it")
        if bos is not None and (bos, bos) in pairwise(ids[: last + 1]):
            raise ValueError(f"{name} has more than one start token ({bos}) in a row")
        if not is_prompt(ids[:first]):
            raise ValueError(f"{name}: what stands before the reply is not a prompt")
    # a token that ends replies too says nothing of how texts begin
    if bos not in (None, eos) and not any(ids[0] == bos for ids, _ in read):
        raise ValueError(f"no row of the first batch begins with the start token ({bos}) that this model's texts have")
