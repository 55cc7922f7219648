"""Stages as `cai run` calls them: composed, checked and built from the configuration, with their fit watched."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cai_lightning.experiment.compose import compose_config
from cai_lightning.experiment.pipeline import with_sources
from cai_lightning.experiment.recipe import Edge, check_tree, raw_value
from cai_lightning.experiment.runtime import check_config, enter_session
from cai_lightning.experiment.targets import RESERVED, construct, locate

# dialogues as they are and human preferences alone; one process, one device, nothing shown
COMMON = [
    "data=own_files",
    "mixture=human",
    "runtime.wandb.mode=disabled",
    "runtime.progress=off",
    "runtime.device=cpu",
]
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}
NAMES = {name: short for short, name in PRECISIONS.items()}


class Watch:
    """What a fit did, as a callback sees it: processor seconds, and the rows and tokens of its batches."""

    def __init__(self, *, last: int | None = None) -> None:
        self.last = last  # the number of the step that the fit ends with
        self.seconds = 0.0
        self.first_step = 0.0  # since the process began
        self.epochs: list[float] = []
        self.steps: list[float] = []
        self.batches: list[Any] = []
        self.precision = ""

    @property
    def rows(self) -> int:
        """Rows learned, each as often as it was."""
        return sum(len(batch.rows) for batch in self.batches)

    @property
    def lengths(self) -> list[int]:
        """The tokens of every text learned; what texts share counts for each of them."""
        segments = [segment for batch in self.batches for segment in batch.packed.segments]
        return [stop - start + context_stop - context for start, stop, context, context_stop in segments]

    @property
    def read(self) -> int:
        """The tokens that went through the model."""
        return sum(len(batch.packed.ids) for batch in self.batches)

    def callback(self) -> Any:
        """The Lightning callback; Lightning is imported here, as late as a stage does it."""
        from lightning.pytorch import Callback

        watch = self

        class Watching(Callback):  # type: ignore[misc]
            def on_train_epoch_start(self, *_: Any) -> None:
                watch.epochs.append(time.process_time())

            def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, number: int) -> None:
                del module, outputs, number
                watch.steps.append(time.process_time())
                trainer.should_stop = len(watch.steps) == watch.last
                watch.first_step = watch.first_step or watch.steps[-1]
                watch.batches.append(batch)

            def on_train_epoch_end(self, *_: Any) -> None:
                watch.epochs[-1] = time.process_time() - watch.epochs[-1]

        return Watching()

    def around(self, fit: Any) -> Any:
        """The fit of a recipe, watched."""

        def watched(module: Any, data: Any, *, callbacks: Sequence[Any], **given: Any) -> None:
            self.precision = NAMES[given["precision"]]
            callbacks = [*callbacks, self.callback()]
            start = time.process_time()
            fit.func(module, data, callbacks=callbacks, **given)
            self.seconds = time.process_time() - start

        return partial(watched, **fit.keywords)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def setting(key: str, overrides: Sequence[str] = ()) -> Any:
    """The value of a key of the configuration."""
    return OmegaConf.select(compose_config(list(overrides)), key)


def stage(
    slot: str,
    overrides: Sequence[str],
    upstream: Mapping[str, Path],
    out: Path,
    fit: Callable[[Any], Any] | None = None,
) -> Callable[[], Path]:
    """A call of the stage in `slot` that gives the folder it has written below `out`.

    `upstream` are the folders of the stages that it is made from. `fit` is given the fit that the recipe names and
    makes the one that stands in its place.
    """
    config = compose_config([*COMMON, *overrides])
    check_config(config)
    enter_session(config)
    recipe = raw_value(config, f"stages.{slot}")
    check_tree(recipe, f"stages.{slot}", (), free=("out",))
    values = with_sources(_filled(recipe, upstream))
    arguments = construct({name: value for name, value in values.items() if name not in RESERVED})
    if fit is not None:
        arguments["fit"] = fit(arguments["fit"])

    def run() -> Path:
        folder = out / slot
        folder.mkdir(parents=True)
        locate(recipe["_target_"])(folder, **arguments)
        return folder

    return run


def _filled(value: Any, upstream: Mapping[str, Path]) -> Any:
    if isinstance(value, Edge):
        return upstream[value.slot]
    if isinstance(value, list):
        return [_filled(item, upstream) for item in value]
    if isinstance(value, dict):
        return {name: _filled(item, upstream) for name, item in value.items()}
    return value
