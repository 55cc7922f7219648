"""Where the figures of a fit go: a JSON line a step. What shows them elsewhere reads that file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger

METRICS = "metrics.jsonl"


def due(trainer: Trainer) -> bool:
    """Whether figures of this step are written: on other steps handing them over would only cost time."""
    return bool((trainer.global_step + 1) % trainer.log_every_n_steps == 0)


class JsonlLogger(Logger):  # type: ignore[misc]
    """Appends one object a logged step to `folder/metrics.jsonl`: sorted keys, no clock; null where not finite."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._path = folder / METRICS

    @property
    def name(self) -> str:
        """The name that Lightning shows."""
        return "jsonl"

    @property
    def version(self) -> str:
        """Always empty: Lightning must make no version folders."""
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Writes one line; `step` counts optimizer steps."""
        row = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with self._path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps({**row, "step": step}, sort_keys=True, allow_nan=False) + "\n")

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Writes nothing: the manifest has the recipe."""
