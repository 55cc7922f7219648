"""When a fit is kept, and what of it, so that a killed one goes on and ends with the same bytes.

A checkpoint stands where the next batch is asked for: then the last step is over, its figures are written, and what
follows depends on weights, optimizer, schedule, the loader's place and what is `kept` alone, for noise is keyed by
seed, epoch and batch. Rollouts cannot be made again in part, so PPO is kept between iterations.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lightning.pytorch import Callback, LightningModule, Trainer

from cai_lightning.learning.checkpoint_files import SUFFIX, newest

_FIRST_SECONDS = 0.05  # what a checkpoint is thought to take before one was made


class Stateful(Protocol):
    """What a checkpoint keeps beside the trainer's own state; plain values and tensors."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Checkpoints(Callback):  # type: ignore[misc]
    """Keeps a fit in `folder` as often as it takes `share` of the time: 0.03 is three seconds in a hundred.

    `kept` has a state of its own. `journals` are files that the fit appends lines to: what was written after the
    checkpoint is cut off when the fit goes on from it. Weights that are not trained are not kept.
    """

    def __init__(
        self, folder: Path, *, share: float, kept: Mapping[str, Stateful], journals: Sequence[Path], first: bool
    ) -> None:
        self.folder = folder
        self._share = share
        self._kept = kept
        self._journals = journals
        self._first = first  # whether this process is the one that writes
        self._trainer: Trainer | None = None
        self._last = time.monotonic()
        # the least of the last three: one write that a busy disk made slow would put the next one off for long
        self._seconds: deque[float] = deque(maxlen=3)
        self._step = 0  # of the checkpoint that there is

    def found(self) -> Path | None:
        """The checkpoint to go on from; without one the journals are emptied, for the fit starts anew."""
        path = newest(self.folder)
        if path is None and self._first:
            for journal in self._journals:
                journal.unlink(missing_ok=True)
        return path

    def watch(self, loader: Any) -> None:
        """Learns when a loader is asked for a batch, and keeps its place, where it has one within an epoch.

        The trainer would restore that too late: after it has begun to iterate, which a schedule makes it do early.
        """
        loader.asked = self.asked
        if hasattr(loader, "load_state_dict"):
            self._kept = {**self._kept, "loader": loader}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Remembers whose fit it is. Weights that were not kept are missed by design, so loading is not strict."""
        self._trainer = trainer
        pl_module.strict_loading = False
        self._last = time.monotonic()

    def asked(self, given: int) -> None:
        """The next batch is asked for after `given` of this epoch: keeps the fit where it is time, between steps."""
        trainer = self._trainer
        if trainer is None or given % trainer.accumulate_grad_batches:
            return
        if trainer.global_step == self._step:
            return
        due = (time.monotonic() - self._last) * self._share >= min(self._seconds, default=_FIRST_SECONDS)
        if trainer.strategy.broadcast(due) if trainer.world_size > 1 else due:
            start = time.monotonic()
            self._step = trainer.global_step
            trainer.save_checkpoint(self.folder / f"{self._step:012d}{SUFFIX}")
            self._last = time.monotonic()
            self._seconds.append(self._last - start)

    def state_dict(self) -> dict[str, Any]:
        """The state of what is kept, and the bytes of each journal, which are on the disk then."""
        return {
            "step": self._step,
            "kept": {name: part.state_dict() for name, part in self._kept.items()},
            "journals": {journal.name: _size(journal) for journal in self._journals},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the state over, and cuts the journals to what they were."""
        self._step = state_dict["step"]
        for name, part in self._kept.items():
            part.load_state_dict(state_dict["kept"][name])
        for journal in self._journals if self._first else []:
            size = state_dict["journals"][journal.name]
            if size == 0:
                journal.unlink(missing_ok=True)  # it was not there, and an empty one would be a file more
                continue
            with journal.open("ab") as file:
                file.truncate(size)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # noqa: ARG002
        """Leaves out weights that are not trained: they are where they came from."""
        frozen = {name for name, value in pl_module.named_parameters(remove_duplicate=False) if not value.requires_grad}
        weights = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in weights.items() if name not in frozen}


def _size(path: Path) -> int:
    """The bytes of a file, after they are on the disk; 0 where there is none."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return file.seek(0, os.SEEK_END)
