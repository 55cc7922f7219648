"""Figures of one optimizer step, over the batches and the processes that made it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from cai_lightning.learning.tracking import due


class StepFigures:
    """Logs a module's figures once a written step: their weighted means over its batches, those of all processes too.

    So one process that accumulates two batches writes what two processes with a batch each do.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}

    def add(
        self,
        module: LightningModule,
        batch_idx: int,
        figures: Mapping[str, Tensor],
        weight: Tensor,
        *,
        masses: Callable[[], Mapping[str, Tensor]],
    ) -> None:
        """Takes the figures of one batch, which weigh `weight` (0 for a batch that only fills up a step); means over a
        part of it weigh the part's mass in `masses()`, which is asked only where several batches make a step, and what
        is NaN was not there. With a step's last batch it logs.
        """
        trainer = module.trainer
        if not due(trainer):
            return
        if trainer.accumulate_grad_batches == trainer.world_size == 1:
            module.log_dict(dict(figures))
            return
        parts = masses()
        for name, value in figures.items():
            mass = torch.where(weight > 0, parts.get(name, weight), 0)
            there = torch.where(value.isnan(), 0.0, mass.to(value))
            self._sums[name] = self._sums.get(name, 0.0) + torch.where(there > 0, value, 0.0) * there
            self._weights[name] = self._weights.get(name, 0.0) + there
        last = (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or batch_idx + 1 == trainer.num_training_batches
        if last:
            module.log_dict(self._means(module))
            self._sums, self._weights = {}, {}

    def _means(self, module: LightningModule) -> dict[str, Tensor]:
        names = sorted(self._sums)
        both = torch.stack([torch.stack([self._sums[name], self._weights[name]]) for name in names])
        if module.trainer.world_size > 1:
            both = module.trainer.strategy.reduce(both, reduce_op="sum")
        return dict(zip(names, both[:, 0] / both[:, 1], strict=True))
