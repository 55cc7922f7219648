"""What the learning stages share: one fit with this run's device, loggers and progress."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from cai_lightning.learning.checkpoints import Checkpoints, Stateful
from cai_lightning.learning.tracking import METRICS, JsonlLogger
from cai_lightning.stages.session import device, is_first, prepare, progress


class Advance(Callback):  # type: ignore[misc]
    """Moves the progress display on by one after each batch, and at once past those of an earlier process."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """So many batches were learned before."""
        self._advance(trainer.fit_loop.total_batch_idx + 1)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:  # noqa: ARG002
        """One more batch is done."""
        self._advance(1)


def train(
    out: Path,
    module: LightningModule,
    data: Any,
    fit: Callable[..., None],
    *,
    batches: int,
    seed: int,
    callbacks: Sequence[Callback] = (),
    kept: Mapping[str, Stateful] = MappingProxyType({}),
    journals: Sequence[Path] = (),
) -> None:
    """Trains `module` in place by `fit`; `out/metrics.jsonl` holds its figures.

    A killed fit goes on at its last checkpoint, with what is `kept` beside the module, and what it had written to
    `journals` and the metrics since then is removed. Of several processes only the first returns, with the weights of
    all; the others end here, for what follows is writing.
    """
    prepare()
    journals = [out / METRICS, *journals]
    checkpoints = _checkpoints(kept, journals)
    if checkpoints is None:
        for journal in journals:
            journal.unlink(missing_ok=True)
    with progress(batches, "batches") as advance:
        fit(
            module,
            data,
            seed=seed,
            accelerator=device().partition(":")[0],
            loggers=[JsonlLogger(out)],
            callbacks=[Advance(advance), *callbacks],
            checkpoints=checkpoints,
        )
    if not is_first():
        raise SystemExit(0)


def _checkpoints(kept: Mapping[str, Stateful], journals: Sequence[Path]) -> Checkpoints | None:
    """Where and how often this run keeps its fits; None outside a run, or where it does not want them."""
    folder, share = os.environ.get("CAI_CHECKPOINTS"), float(os.environ.get("CAI_CHECKPOINT_SHARE", "0"))
    if folder is None or share <= 0:
        return None
    return Checkpoints(Path(folder), share=share, kept=kept, journals=journals, first=is_first())


def batches_of(data: Any, fit: Any) -> int:
    """The number of training batches of a whole fit, for the progress display."""
    batches = -(-len(data.train_dataloader()) // int(fit.keywords["devices"]))
    return batches * int(fit.keywords["epochs"])
