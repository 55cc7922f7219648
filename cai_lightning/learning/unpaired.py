"""Training of a policy on replies that were rated alone (KTO)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cai_lightning.learning.batches import Mismatched, UnpairedBatch
from cai_lightning.learning.figures import StepFigures
from cai_lightning.learning.gathering import gathered
from cai_lightning.learning.losses import LossOutput
from cai_lightning.learning.optim import OptimizerFactory, ScheduleFactory, configured
from cai_lightning.learning.preference import LiveReference
from cai_lightning.learning.processes import Shardable
from cai_lightning.learning.unpaired_losses import UnpairedInput, batch_kl, rated
from cai_lightning.models.causal import evaluating
from cai_lightning.models.logprobs import branch_logprobs


class UnpairedModule(Shardable):  # type: ignore[misc]
    """Lowers a loss of unpaired replies. The KL is that of the whole optimizer step, over its batches and processes, so
    a step is the same however it is cut.
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
        self._kl: Tensor | None = None  # of the step at hand

    def training_step(self, batch: UnpairedBatch, batch_idx: int) -> Tensor:
        """The batch's part of the loss of its accumulation window."""
        # First, and so before anything of the gradient's pass is kept.
        if batch.mismatched is not None:
            self._kl = self._moved(batch.mismatched)
        assert self._kl is not None, "the first batch of a step has its mismatched texts"
        loss, metrics = self._step(batch, self._kl)
        weight = batch.weight.sum() * torch.isfinite(batch.divisor)
        self._figures.add(self, batch_idx, metrics, weight, masses=partial(rated, batch.p_desirable, batch.weight))
        return loss * batch.weight.sum() / batch.divisor

    def validation_step(self, batch: UnpairedBatch, batch_idx: int) -> None:  # noqa: ARG002
        """Logs the loss and the KL of validation replies."""
        figures = self._step(batch, self._moved(batch.mismatched or ()))[1]
        metrics = {f"val/{name}": figures[name] for name in ("loss", "kl")}
        self.log_dict(metrics, batch_size=len(batch.weight))

    def configure_optimizers(self) -> dict[str, Any]:
        """Optimizer and schedule of the recipe."""
        steps = int(self.trainer.estimated_stepping_batches)
        return configured(self, self._optimizer, self._schedule, steps)

    def _step(self, batch: UnpairedBatch, kl: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
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

    def _moved(self, mismatched: Sequence[Mismatched]) -> Tensor:
        """The KL in nats over the mismatched texts of all processes."""
        rows = [torch.zeros(2, 0)]
        for one in mismatched:
            # Dropout would add to the distance from a reference that has none.
            with torch.no_grad(), evaluating(self.policy):
                policy = branch_logprobs(self.policy, one.packed, temperature=1.0)
            found = torch.stack([policy, self._live(self.policy, one.packed)]).cpu()
            rows += [found] if one.counts else []
        # before 2.11 torch gave a pass with a graph the weights in half precision that one without it had left
        torch.clear_autocast_cache()
        policy, reference = torch.cat(gathered(torch.cat(rows, 1), self.trainer.world_size), 1).to(self.device)
        return batch_kl(policy, reference)
