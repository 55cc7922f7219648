"""Direct training of a policy on labelled pairs; the loss is a function of the recipe (DPO, IPO, cDPO, ...)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cai_lightning.learning.batches import PairBatch
from cai_lightning.learning.losses import LossOutput, PreferenceInput
from cai_lightning.learning.optim import OptimizerFactory, ScheduleFactory, configured
from cai_lightning.learning.processes import Shardable
from cai_lightning.learning.tracking import due
from cai_lightning.models.logprobs import branch_logprobs


class PreferenceModule(Shardable):  # type: ignore[misc]
    """Lowers a preference loss of a policy. It holds no reference: its log-probabilities come with the pairs."""

    def __init__(
        self,
        policy: PreTrainedModel,
        *,
        loss: Callable[[PreferenceInput], LossOutput],
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
    ) -> None:
        super().__init__()
        self.policy = policy
        self._loss = loss
        self._optimizer = optimizer
        self._schedule = schedule

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """The batch's part of the loss of its accumulation window."""
        loss, metrics = self._step(batch)
        if due(self.trainer):
            self.log_dict(metrics)
        return loss * batch.weight.sum() / batch.divisor

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:  # noqa: ARG002
        """Logs the same figures for validation pairs."""
        metrics = {f"val/{name}": value for name, value in self._step(batch)[1].items()}
        self.log_dict(metrics, batch_size=len(batch.weight))

    def configure_optimizers(self) -> dict[str, Any]:
        """Optimizer and schedule of the recipe."""
        steps = int(self.trainer.estimated_stepping_batches)
        return configured(self, self._optimizer, self._schedule, steps)

    def _step(self, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
        logps = branch_logprobs(self.policy, batch.packed, temperature=1.0)
        lengths = torch.diff(batch.packed.branches)[:, 0].to(logps.device)
        output = self._loss(
            PreferenceInput(
                policy_chosen=logps[::2],
                policy_rejected=logps[1::2],
                lengths_chosen=lengths[::2],
                lengths_rejected=lengths[1::2],
                reference_chosen=batch.reference_chosen,
                reference_rejected=batch.reference_rejected,
                p_chosen=batch.p_chosen,
                weight=batch.weight,
            )
        )
        return output.loss, {"loss": output.loss.detach(), **output.metrics}
