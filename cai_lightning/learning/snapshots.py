"""Keeping the policy as it was after chosen iterations: the players of a run's history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from transformers import PreTrainedModel

from cai_lightning.models.causal import evaluating


class Snapshots(Callback):  # type: ignore[misc]
    """Calls `save(iteration, policy)` after the iterations listed; iterations count from 1."""

    def __init__(self, iterations: Sequence[int], save: Callable[[int, PreTrainedModel], Any]) -> None:
        self._iterations = frozenset(iterations)
        self._save = save

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves if this iteration is listed; of several processes, which have the same policy, the first one."""
        iteration = trainer.current_epoch + 1
        if iteration in self._iterations and trainer.is_global_zero:
            with evaluating(pl_module.policy):
                self._save(iteration, pl_module.policy)
