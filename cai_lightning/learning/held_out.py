"""Stopping reinforcement learning where a judge that is not maximised liked it best."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

log = logging.getLogger("cai")


def never(history: Sequence[Mapping[str, float]]) -> None:
    """No callback: a fit runs to its end."""


class HeldOutStop(Callback):  # type: ignore[misc]
    """Ends a fit once the held-out score of the last `patience` iterations lies more than `ses` standard errors below
    the best, and puts back the weights that had the best.

    The score of an iteration is that of the policy before its updates. Weights that are not trained are left alone.
    """

    def __init__(self, history: Sequence[Mapping[str, float]], *, patience: int, ses: float) -> None:
        self._history = history
        self._patience = patience
        self._ses = ses
        self._best = -1  # iteration
        self._weights: dict[str, dict[str, Tensor]] = {"best": {}, "newest": {}}
        self.stopped = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Remembers the weights that the first iteration samples from."""
        if not self._weights["newest"]:
            self._weights["newest"] = _trained(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the best weights, or stops and puts them back."""
        scores = [row["heldout/scores"] for row in self._history]
        if self._best < 0 or scores[-1] > scores[self._best]:
            self._best, self._weights["best"] = len(scores) - 1, self._weights["newest"]
        self._weights["newest"] = _trained(pl_module)
        if len(scores) - 1 - self._best >= self._patience and self._fallen():
            log.info("the held-out judge liked iteration %d best: stopping after %d", self._best, len(scores) - 1)
            named = dict(pl_module.named_parameters())
            for name, weight in self._weights["best"].items():
                named[name].data.copy_(weight)
            self.stopped = trainer.should_stop = True

    def _fallen(self) -> bool:
        best, last = self._history[self._best], self._history[-self._patience :]
        mean = sum(row["heldout/scores"] for row in last) / len(last)
        noise = sum(row["heldout/scores_se"] ** 2 for row in last) / len(last) ** 2
        return best["heldout/scores"] - mean > self._ses * math.sqrt(noise + best["heldout/scores_se"] ** 2)

    def state_dict(self) -> dict[str, Any]:
        """The best iteration, its weights and the newest."""
        return {"best": self._best, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them over."""
        self._best, self._weights = state_dict["best"], state_dict["weights"]


def _trained(module: LightningModule) -> dict[str, Tensor]:
    return {
        name: weight.detach().to("cpu", copy=True) for name, weight in module.named_parameters() if weight.requires_grad
    }
