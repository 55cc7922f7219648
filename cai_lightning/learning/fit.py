"""One way to run Lightning's trainer: no files of its own, no noise, reproducible steps, guards on."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import Strategy
from transformers import PreTrainedModel

from cai_lightning.learning.checkpoint_files import WholeFiles
from cai_lightning.learning.checkpoints import Checkpoints
from cai_lightning.learning.compiling import compiled
from cai_lightning.learning.guards import FiniteGuard, StepSeed
from cai_lightning.learning.precision import Products, warn_if_slow
from cai_lightning.learning.precision import products as made_by
from cai_lightning.learning.processes import Whole, of_this_process

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
    products: Products,
    accumulate: int,
    checkpoint_activations: bool,
    compile: bool,
    seed: int,
    accelerator: str,
    devices: int,
    strategy: Callable[[], Strategy | str],
    log_every: int,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback],
    checkpoints: Checkpoints | None = None,
) -> None:
    """Trains the module in place for `epochs`; it is in eval mode afterwards.

    `data` is a LightningDataModule or a sized iterable of batches, `clip` the largest gradient norm, `products` who
    multiplies in float32 on a CPU. A fit that `checkpoints` has kept goes on from there. With
    `checkpoint_activations` each layer is computed again in the backward pass: less memory, more time; with `compile`
    layers run compiled. The result is a function of the weights, the data and `seed` on one kind of machine. With
    several `devices` this is called once in each process; `accumulate` batches on each of them make a step, and the
    first has the weights afterwards. Raises ValueError before an update that a non-finite loss or gradient would spoil.
    """
    # from_pretrained leaves models in eval mode, and Lightning keeps what it finds: dropout would be off.
    module.train()
    guards = [StepSeed(seed=seed), FiniteGuard(), Whole(module)]
    if devices > 1 and "LOCAL_RANK" not in os.environ:
        raise ValueError(f"devices is {devices}, but this is one process: `cai run` starts them, or take devices=1")
    warn_if_slow(precision, accelerator)
    with (
        _quiet(),
        _deterministic(),
        _recomputing(module, checkpoint_activations),
        made_by(products),
        compiled(module, compile),
    ):
        kept = [] if checkpoints is None else [checkpoints]
        trainer = Trainer(
            max_epochs=epochs,
            gradient_clip_val=clip,
            precision=precision,
            accumulate_grad_batches=accumulate,
            accelerator=accelerator,
            devices=devices,
            strategy=strategy(),
            logger=list(loggers),
            log_every_n_steps=log_every,
            callbacks=[*guards, *callbacks, *kept],
            # `cai run` has started the processes: a scheduler's variables around them say nothing of this fit
            plugins=[WholeFiles(), LightningEnvironment()],
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
            num_sanity_val_steps=0,
            deterministic=True,
        )
        loaders, start = of_this_process(data, trainer), None
        if checkpoints is not None:
            checkpoints.watch(loaders["train_dataloaders"])
            start = checkpoints.found()
        trainer.fit(module, **loaders, ckpt_path=start, weights_only=True)
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
def _recomputing(module: LightningModule, wanted: bool) -> Iterator[None]:
    """Activation checkpoints in the module's language models inside, if wanted."""
    models = [part for part in module.modules() if isinstance(part, PreTrainedModel)] if wanted else []
    for model in models:
        # Transformers has given it another name. Not re-entrant: frozen weights below an adapter need no gradient.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    try:
        yield
    finally:
        for model in models:
            (getattr(model, "activation_checkpointing_disable", None) or model.gradient_checkpointing_disable)()


@contextmanager
def _deterministic() -> Iterator[None]:
    """Undoes the trainer's process-wide switch afterwards, and inside spares every new tensor the filling that comes
    with it: it costs time, and nothing here reads what was not written.
    """
    switches: Any = torch.utils.deterministic
    before, filling = torch.are_deterministic_algorithms_enabled(), switches.fill_uninitialized_memory
    switches.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        switches.fill_uninitialized_memory = filling
