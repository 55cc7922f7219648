"""One way to run Lightning's trainer: no files of its own, no noise, reproducible steps, guards on."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import Logger

from cai_lightning.learning.guards import FiniteGuard, StepSeed

# They set levels of their own, so their parents' would not reach them.
_NOISY = (
    "lightning.pytorch",
    "lightning.fabric",
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities",
)


def fit(
    module: LightningModule,
    data: Any,
    *,
    epochs: int,
    clip: float,
    precision: str,
    accumulate: int,
    seed: int,
    accelerator: str,
    devices: int,
    log_every: int,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback],
) -> None:
    """Trains the module in place for `epochs`; it is in eval mode afterwards.

    `data` is a LightningDataModule or a sized iterable of batches, `clip` the largest gradient norm. The result is a
    function of the weights, the data and `seed` on one kind of machine. Raises ValueError before an update that a
    non-finite loss or gradient would spoil.
    """
    # from_pretrained leaves models in eval mode, and Lightning keeps what it finds: dropout would be off.
    module.train()
    guards = [StepSeed(seed=seed), FiniteGuard()]
    with _quiet(), _deterministic():
        trainer = Trainer(
            max_epochs=epochs,
            gradient_clip_val=clip,
            precision=precision,
            accumulate_grad_batches=accumulate,
            accelerator=accelerator,
            devices=devices,
            logger=list(loggers),
            log_every_n_steps=log_every,
            callbacks=[*guards, *callbacks],
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
            num_sanity_val_steps=0,
            deterministic=True,
        )
        if trainer.world_size > 1:
            raise ValueError(f"devices is {devices}, but the loaders here do not split batches over processes: use 1")
        trainer.fit(module, data)
    module.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides Lightning's hints on devices, workers and its own products; errors and other warnings pass."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Undoes the trainer's process-wide switch afterwards: it slows down every later torch.empty."""
    before = torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
