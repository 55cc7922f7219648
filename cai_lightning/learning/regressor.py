"""Training of a reward model on replies that were rated alone: its score becomes the rating."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cai_lightning.learning.batches import UnpairedBatch
from cai_lightning.learning.figures import StepFigures
from cai_lightning.learning.losses import weighted_mean
from cai_lightning.learning.optim import OptimizerFactory, ScheduleFactory, configured
from cai_lightning.learning.processes import Shardable


class RegressorModule(Shardable):  # type: ignore[misc]
    """Fits scores to ratings by their squared error (Bai et al. 2022, section 4.5); scores are in units of the rating.

    `model(packed)` gives one score a branch. `undesirable` is the rating of a reply that is desirable by 0, `desirable`
    that of one by 1; those between lie on the line.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        undesirable: float,
        desirable: float,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
    ) -> None:
        super().__init__()
        self.model = model
        self._ends = undesirable, desirable
        self._optimizer = optimizer
        self._schedule = schedule
        self._figures = StepFigures()

    def training_step(self, batch: UnpairedBatch, batch_idx: int) -> Tensor:
        """The batch's part of the loss of its accumulation window."""
        loss, metrics = self._step(batch)
        weight = batch.weight.sum() * torch.isfinite(batch.divisor)
        self._figures.add(self, batch_idx, metrics, weight, masses=dict)
        return loss * batch.weight.sum() / batch.divisor

    def validation_step(self, batch: UnpairedBatch, batch_idx: int) -> None:  # noqa: ARG002
        """Logs the same figures for validation replies."""
        metrics = {f"val/{name}": value for name, value in self._step(batch)[1].items()}
        self.log_dict(metrics, batch_size=len(batch.weight))

    def configure_optimizers(self) -> dict[str, Any]:
        """Optimizer and schedule of the recipe."""
        steps = int(self.trainer.estimated_stepping_batches)
        return configured(self, self._optimizer, self._schedule, steps)

    def _step(self, batch: UnpairedBatch) -> tuple[Tensor, dict[str, Tensor]]:
        low, high = self._ends
        scores = self.model(batch.packed).float()
        error = scores - (low + (high - low) * batch.p_desirable)
        loss = weighted_mean(error**2, batch.weight)
        with torch.no_grad():
            metrics = {
                "loss": loss.detach(),
                "error": weighted_mean(error.abs(), batch.weight),
                "scores/mean": weighted_mean(scores, batch.weight),
            }
        return loss, metrics
