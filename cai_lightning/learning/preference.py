"""Direct training of a policy on labelled pairs; the loss is a function of the recipe (DPO, IPO, cDPO, ...)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cai_lightning.learning.batches import PairBatch
from cai_lightning.learning.figures import StepFigures
from cai_lightning.learning.losses import LossOutput, PreferenceInput, decided_labels
from cai_lightning.learning.optim import OptimizerFactory, ScheduleFactory, configured
from cai_lightning.learning.processes import Shardable
from cai_lightning.models.adapters import names, only
from cai_lightning.models.causal import evaluating
from cai_lightning.models.logprobs import branch_logprobs
from cai_lightning.models.packing import Packed

LiveReference = Callable[[PreTrainedModel, Packed], Tensor]
"""(policy, packed pairs) -> the log-probability [branch] of each reply under the reference, without a gradient."""


def adapter_off(policy: PreTrainedModel, packed: Packed) -> Tensor:
    """The reference of a policy that trains an adapter: itself without it."""
    with torch.no_grad(), evaluating(policy), only(policy, names(policy)[:-1]):
        return branch_logprobs(policy, packed, temperature=1.0)


class Frozen:
    """The reference of a policy that trains every weight: another copy of what it was, on the policy's device."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model.requires_grad_(False).eval()

    def __call__(self, policy: PreTrainedModel, packed: Packed) -> Tensor:
        """The log-probability [branch] of each reply under the copy."""
        del policy
        with torch.no_grad():
            return branch_logprobs(self._model.to(packed.ids.device), packed, temperature=1.0)


def live_reference(policy: PreTrainedModel, copy: Callable[[], PreTrainedModel]) -> LiveReference:
    """The reference of a policy as it is now: itself without its adapter, or where every weight learns, a `copy`."""
    return adapter_off if names(policy) else Frozen(copy())


class PreferenceModule(Shardable):  # type: ignore[misc]
    """Lowers a preference loss of a policy. The reference's log-probabilities come with the pairs, or from `live`.

    Accuracies are logged of each of `sources`, the names of the sources that labels number, where these are several.
    """

    def __init__(
        self,
        policy: PreTrainedModel,
        *,
        loss: Callable[[PreferenceInput], LossOutput],
        live: LiveReference | None,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        sources: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.policy = policy
        self._loss = loss
        self._live = live
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
        logps = branch_logprobs(self.policy, batch.packed, temperature=1.0)
        reference_chosen, reference_rejected = batch.reference_chosen, batch.reference_rejected
        if self._live is not None:
            reference = self._live(self.policy, batch.packed)
            reference_chosen, reference_rejected = reference[::2], reference[1::2]
        lengths = torch.diff(batch.packed.branches)[:, 0].to(logps.device)
        output = self._loss(
            PreferenceInput(
                policy_chosen=logps[::2],
                policy_rejected=logps[1::2],
                lengths_chosen=lengths[::2],
                lengths_rejected=lengths[1::2],
                reference_chosen=reference_chosen,
                reference_rejected=reference_rejected,
                p_chosen=batch.p_chosen,
                weight=batch.weight,
                margin=batch.margin,
                source=batch.source,
                sources=sources,
            )
        )
        return output.loss, {"loss": output.loss.detach(), **output.metrics}
