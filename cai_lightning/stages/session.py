"""What a stage may know of the machine it runs on: device, threads, progress. Nothing here changes a number."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator

from cai_lightning.stages.threads import ease


def device() -> str:
    """The torch device of this run: CAI_DEVICE, where "auto" is cuda when there is one."""
    wanted = os.environ.get("CAI_DEVICE", "auto")
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def is_first() -> bool:
    """Whether this process writes: the only one of a stage, or the first of several (RANK)."""
    return os.environ.get("RANK", "0") == "0"


def prepare() -> None:
    """Gives torch its threads, and hides transformers' own progress bars.

    Gives back the memory of an earlier stage: a model and what trained it hold each other until they are collected.
    """
    import torch
    from transformers.utils import logging

    ease()
    logging.disable_progress_bar()
    gc.collect()
    if not gc.get_freeze_count():
        gc.freeze()  # what libraries made stays: looking through it again takes a third of a second
    torch.cuda.empty_cache()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # where the C library is not glibc
        ctypes.CDLL(None).malloc_trim(0)  # its heap keeps half a gigabyte of what an earlier stage freed


def autocast(precision: str) -> contextlib.AbstractContextManager[None]:
    """Mixed precision as Lightning's precision of that name does it: bfloat16 autocast for "bf16-mixed", else none."""
    import torch

    return torch.autocast(device().partition(":")[0], torch.bfloat16, enabled=precision == "bf16-mixed")


@contextlib.contextmanager
def progress(total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of finished items: a bar on a terminal, a line every ten seconds elsewhere.

    Each call also looks whether the number of threads still fits.
    """
    with _shown(total, unit) as show:

        def advance(count: int) -> None:
            show(count)
            ease()

        yield advance


@contextlib.contextmanager
def _shown(total: int, unit: str) -> Iterator[Callable[[int], None]]:
    mode = os.environ.get("CAI_PROGRESS", "auto")
    slot = os.environ.get("CAI_SLOT", "stage")
    if mode == "off" or total <= 0:
        yield lambda _: None
    elif mode == "bar" or (mode == "auto" and sys.stderr.isatty()):
        with _bar(total, unit, slot) as advance:
            yield advance
    else:
        yield _lines(total, unit, slot)


@contextlib.contextmanager
def _bar(total: int, unit: str, slot: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task(slot, total=total)
        yield lambda count: bar.advance(task, count)


def _lines(total: int, unit: str, slot: str) -> Callable[[int], None]:
    done, last = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        if time.monotonic() - last >= 10:
            last = time.monotonic()
            print(f"  {slot}: {done}/{total} {unit}", file=sys.stderr, flush=True)

    return advance
