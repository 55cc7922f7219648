"""Supervised training of a policy on weighted tokens: pretraining and SFT alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cai_lightning.learning.batches import TokenBatch
from cai_lightning.learning.figures import StepFigures
from cai_lightning.learning.losses import weighted_nll
from cai_lightning.learning.optim import OptimizerFactory, ScheduleFactory, configured
from cai_lightning.learning.processes import Shardable
from cai_lightning.models.logprobs import token_logprobs


class SFTModule(Shardable):  # type: ignore[misc]
    """Lowers the weighted mean negative log-likelihood of a policy, in nats per unit of token weight."""

    def __init__(self, policy: PreTrainedModel, *, optimizer: OptimizerFactory, schedule: ScheduleFactory) -> None:
        super().__init__()
        self.policy = policy
        self._optimizer = optimizer
        self._schedule = schedule
        self._figures = StepFigures()

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        """The batch's part of the loss of its accumulation window."""
        loss, mean = self._losses(batch)
        weight = batch.weights.sum() * torch.isfinite(batch.divisor)
        self._figures.add(self, batch_idx, {"loss": mean}, weight, masses=dict)
        return loss

    def validation_step(self, batch: TokenBatch, batch_idx: int) -> None:  # noqa: ARG002
        """Logs the mean loss over all validation tokens."""
        mass = batch.weights.sum()
        self.log("val/loss", self._losses(batch)[1], batch_size=max(1, int(mass)))

    def configure_optimizers(self) -> dict[str, Any]:
        """Optimizer and schedule of the recipe."""
        steps = int(self.trainer.estimated_stepping_batches)
        return configured(self, self._optimizer, self._schedule, steps)

    def _losses(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        logps = token_logprobs(self.policy, batch.packed, batch.targets, temperature=1.0)
        loss = weighted_nll(logps, batch.weights, batch.divisor)
        with torch.no_grad():
            mean = loss.detach() * batch.divisor / batch.weights.sum()
        return loss, mean
