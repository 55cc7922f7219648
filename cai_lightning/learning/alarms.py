"""What looks wrong in a run of reinforcement learning, in plain words: pure functions of its history."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

History = Sequence[Mapping[str, float]]

log = logging.getLogger("cai")


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """When an alarm sounds: `ses` standard errors for what is noisy, `ratio` for how far a first ratio may be from 1,
    `eos_rate` and `entropy_share` (of the first iteration's) for what they fall below, `window` iterations for trends.
    """

    ses: float
    ratio: float
    eos_rate: float
    entropy_share: float
    window: int


def alarms(history: History, first_ratio_error: float, limits: Thresholds) -> dict[str, str]:
    """What is wrong after the newest iteration, by kind, each with what it means and what to do."""
    now, found = history[-1], {}
    if now["objective/kl"] < -limits.ses * now["objective/kl_se"]:
        found["negative_kl"] = (
            f"the KL to the reference is {now['objective/kl']:.3g} nats, below 0 by more than noise: replies are not "
            "drawn from the policy that is learned; check temperature, stop tokens and masks"
        )
    if first_ratio_error > limits.ratio:
        found["first_ratio"] = (
            f"before its first update an iteration has ratios up to {first_ratio_error:.3g} from 1: old and new "
            "log-probabilities are of different models or formats; use 32-true, or look for dropout"
        )
    if now["eos_rate"] < limits.eos_rate:
        found["eos_rate"] = (
            f"only {now['eos_rate']:.0%} of replies end by themselves: raise max_new_tokens or missing_eos_penalty"
        )
    first = history[0]["policy/entropy_avg"]
    if now["policy/entropy_avg"] < limits.entropy_share * first:
        found["entropy"] = (
            f"the entropy fell from {first:.3g} to {now['policy/entropy_avg']:.3g} nats a token: the policy says one "
            "thing; raise kl_coef or lower the learning rate"
        )
    if "heldout/scores" in now and _diverge(history, limits):
        found["over_optimised"] = (
            "the reward rises and the held-out judge's falls: the policy learns the reward model's mistakes; stop "
            "here, or raise kl_coef"
        )
    return found


def _diverge(history: History, limits: Thresholds) -> bool:
    """Whether the last `window` iterations have more reward than those before and less of the held-out judge's."""
    proxy, gold = (change(history, name, limits.window) for name in ("objective/scores", "heldout/scores"))
    return proxy > limits.ses and gold < -limits.ses


def change(history: History, name: str, window: int) -> float:
    """How far the mean of a figure moved from the `window` iterations before the last ones to these, in standard
    errors; 0 where there are too few.
    """
    if len(history) < 2 * window:
        return 0.0
    before, after = (history[-2 * window : -window], history[-window:])
    moved = sum(row[name] for row in after) - sum(row[name] for row in before)
    noise = math.sqrt(sum(row[f"{name}_se"] ** 2 for row in history[-2 * window :]))
    return moved / noise if noise else math.copysign(math.inf, moved) if moved else 0.0


class Alarms(Callback):  # type: ignore[misc]
    """Says each kind of alarm when it first sounds, and writes every one to a file: iteration, kind, text."""

    def __init__(self, history: History, limits: Thresholds, journal: Path) -> None:
        self._history = history
        self._limits = limits
        self._journal = journal
        self._said: set[str] = set()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the iteration that has ended."""
        for kind, text in alarms(self._history, pl_module.first_ratio_error, self._limits).items():
            if trainer.is_global_zero:
                with self._journal.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"iteration": trainer.current_epoch, "kind": kind, "text": text}) + "\n")
                if kind not in self._said:
                    log.warning("iteration %d: %s", trainer.current_epoch, text)
            self._said.add(kind)
