"""Training of a reward model (the paper's preference model) on labelled pairs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cai_lightning.learning.batches import PairBatch
from cai_lightning.learning.figures import StepFigures
from cai_lightning.learning.losses import accuracies, bradley_terry_loss, decided_labels, weighted_mean
from cai_lightning.learning.optim import OptimizerFactory, ScheduleFactory, configured
from cai_lightning.learning.processes import Shardable


class RewardModule(Shardable):  # type: ignore[misc]
    """Fits rewards to soft labels under a Bradley-Terry model; rewards are in nats of log-odds.

    `model(packed)` gives one reward a branch. `centre_coef` times the mean of (chosen + rejected) squared
    holds the free constant of the rewards near zero (Eisenstein et al. 2023, "Helping or Herding", eq. 2). Accuracies
    are logged of each of `sources`, the names of the sources that labels number, where these are several.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        centre_coef: float,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        sources: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self._centre_coef = centre_coef
        self._optimizer = optimizer
        self._schedule = schedule
        self._figures = StepFigures()
        self._sources = tuple(sources)

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """The batch's part of the loss of its accumulation window."""
        loss, metrics = self._step(batch, self._sources)
        weight = batch.weight.sum() * torch.isfinite(batch.divisor)
        masses = partial(decided_labels, batch.p_chosen, batch.weight, batch.source, self._sources)
        self._figures.add(self, batch_idx, metrics, weight, masses=masses)
        return loss * batch.weight.sum() / batch.divisor

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:  # noqa: ARG002
        """Logs the same figures for validation pairs, of all sources together: a batch may have no label of one."""
        metrics = {f"val/{name}": value for name, value in self._step(batch, ())[1].items()}
        self.log_dict(metrics, batch_size=len(batch.weight))

    def configure_optimizers(self) -> dict[str, Any]:
        """Optimizer and schedule of the recipe."""
        steps = int(self.trainer.estimated_stepping_batches)
        return configured(self, self._optimizer, self._schedule, steps)

    def _step(self, batch: PairBatch, sources: tuple[str, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        rewards = self.model(batch.packed).float()
        chosen, rejected = rewards[::2], rewards[1::2]
        difference = chosen - rejected
        preference = bradley_terry_loss(difference, batch.p_chosen, batch.weight, margin=batch.margin)
        loss = preference + self._centre_coef * weighted_mean((chosen + rejected) ** 2, batch.weight)
        with torch.no_grad():
            metrics = {
                "loss": preference.detach(),
                **accuracies(difference, batch.p_chosen, batch.weight, batch.source, sources),
                "rewards/margins": weighted_mean(difference, batch.weight),
                "rewards/mean": weighted_mean((chosen + rejected) / 2, batch.weight),
            }
        return loss, metrics
