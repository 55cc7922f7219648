"""Training of a policy on replies that were rated alone (KTO)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cai_lightning.learning.batches import UnpairedBatch
from cai_lightning.learning.figures import StepFigures
from cai_lightning.learning.losses import LossOutput
from cai_lightning.learning.optim import OptimizerFactory, ScheduleFactory, configured
from cai_lightning.learning.preference import LiveReference
from cai_lightning.learning.processes import Shardable
from cai_lightning.learning.unpaired_losses import UnpairedInput, batch_kl
from cai_lightning.models.causal import evaluating
from cai_lightning.models.logprobs import branch_logprobs
from cai_lightning.models.packing import Packed


class UnpairedModule(Shardable):  # type: ignore[misc]
    """Lowers a loss of unpaired replies. The KL is one batch's, so batches are parts of the recipe: more of them to a
    step give the gradients of their own KLs.
    """

    def __init__(
        self,
        policy: PreTrainedModel,
        *,
        loss: Callable[[UnpairedInput], LossOutput],
        live: LiveReference,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
    ) -> None:
        super().__init__()
        self.policy = policy
        self._loss = loss
        self._live = live
        self._optimizer = optimizer
        self._schedule = schedule
        self._figures = StepFigures()

    def training_step(self, batch: UnpairedBatch, batch_idx: int) -> Tensor:
        """The batch's part of the loss of its accumulation window."""
        loss, metrics = self._step(batch)
        weight = batch.weight.sum() * torch.isfinite(batch.divisor)
        self._figures.add(self, batch_idx, metrics, weight)
        return loss * batch.weight.sum() / batch.divisor

    def validation_step(self, batch: UnpairedBatch, batch_idx: int) -> None:  # noqa: ARG002
        """Logs the loss and the KL of validation replies."""
        figures = self._step(batch)[1]
        metrics = {f"val/{name}": figures[name] for name in ("loss", "kl")}
        self.log_dict(metrics, batch_size=len(batch.weight))

    def configure_optimizers(self) -> dict[str, Any]:
        """Optimizer and schedule of the recipe."""
        steps = int(self.trainer.estimated_stepping_batches)
        return configured(self, self._optimizer, self._schedule, steps)

    def _step(self, batch: UnpairedBatch) -> tuple[Tensor, dict[str, Tensor]]:
        # First, and so before anything of the gradient's pass is kept.
        kl = self._kl(batch.mismatched, batch.weight)
        output = self._loss(
            UnpairedInput(
                policy=branch_logprobs(self.policy, batch.packed, temperature=1.0),
                reference=self._live(self.policy, batch.packed),
                p_desirable=batch.p_desirable,
                weight=batch.weight,
                kl=kl,
            )
        )
        return output.loss, {"loss": output.loss.detach(), **output.metrics}

    def _kl(self, mismatched: Packed | None, weight: Tensor) -> Tensor:
        if mismatched is None:
            return batch_kl(weight[:0], weight[:0])
        # Dropout would add to the distance from a reference that has none.
        with torch.no_grad(), evaluating(self.policy):
            policy = branch_logprobs(self.policy, mismatched, temperature=1.0)
        return batch_kl(policy, self._live(self.policy, mismatched))
