"""Where the figures of a fit go: a JSON line a step, always; Weights & Biases beside it, offline unless asked."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, WandbLogger

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


@contextmanager
def wandb_loggers(
    *, mode: str, project: str, group: str, name: str, tags: Sequence[str], folder: Path, init_timeout: float
) -> Iterator[list[Logger]]:
    """One W&B logger, or none where `mode` is "disabled"; the run is finished on leaving, also after an error.

    Only mode "online" uses the network. Where it does not answer within `init_timeout` seconds the run goes on
    offline, with one warning.
    """
    if mode == "disabled":
        yield []
        return
    run = _init(mode, init_timeout, project=project, group=group, name=name, tags=list(tags), dir=str(folder))
    try:
        yield [WandbLogger(experiment=run)]
    finally:
        # Otherwise the next stage of this process would log into the same run.
        run.finish()


def _init(mode: Any, init_timeout: float, **names: Any) -> Any:
    import wandb

    settings = wandb.Settings(init_timeout=init_timeout, console="off", silent=True)
    try:
        return wandb.init(mode=mode, settings=settings, **names)
    except wandb.errors.Error as error:
        if mode != "online":
            raise
        cause = str(error).partition("\n")[0]
        warnings.warn(f"W&B is not reachable ({cause}); this run is logged offline", stacklevel=2)
        return wandb.init(mode="offline", settings=settings, **names)
