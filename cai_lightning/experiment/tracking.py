"""What Weights & Biases is told of a run: events in a file of the run's folder, read by a process of its own.

The network is that process's affair. The run writes lines, and at its end waits for at most `runtime.wandb.patience`
seconds; what was not logged or sent by then, `cai sync` makes up from the same file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig, OmegaConf

from cai_lightning.experiment.pipeline import Plan, build, upstream
from cai_lightning.experiment.store import Built

TRACKER = "cai_lightning.report.tracker"
PLACE, EVENTS, SAID = "wandb", "events.jsonl", "tracker.log"
_OUTAGE = "CAI_WANDB_OUTAGE"  # W&B did not answer an earlier run of this process
log = logging.getLogger("cai")


class Tell(Protocol):
    """Passes an event on; costs the time of writing a line."""

    def __call__(self, event: str, **facts: Any) -> None: ...


@contextlib.contextmanager
def tracking(config: DictConfig, folder: Path, plan: Plan, *, kind: str) -> Iterator[Tell]:
    """A function to tell events with; what it is told goes to W&B unless `runtime.wandb.mode` is "disabled".

    `kind` is "run", or "sweep" for what joins the jobs of one. On leaving, W&B has so many seconds to come to an end.
    """
    wandb = config.runtime.wandb
    if wandb.mode == "disabled":
        yield lambda event, **facts: None  # noqa: ARG005
        return
    place = folder.absolute() / PLACE
    place.mkdir(parents=True, exist_ok=True)
    with (place / EVENTS).open("w", encoding="utf-8") as file:

        def tell(event: str, **facts: Any) -> None:
            file.write(json.dumps({"event": event, **facts}) + "\n")
            file.flush()

        tell("start", **_head(config, folder, plan, kind))
        failed = True
        with _process(folder, float(wandb.patience)):
            try:
                yield tell
                failed = False
            finally:
                tell("end", failed=failed)


def tracked(plan: Plan, slot: str, tell: Tell, work: Mapping[str, float]) -> Built:
    """The artifact of one slot, as `build` makes it; W&B is told when it is begun, and how it ended."""
    node = plan.nodes[slot]
    under_way = False

    def begun(folder: Path) -> None:
        nonlocal under_way
        under_way = True
        made_from = upstream(plan, node)
        about = {"stage": node.stage, "key": node.key, "version": node.version, "recipe": node.recipe}
        tell("begun", slot=slot, folder=str(folder.absolute()), **about, upstream=made_from)

    try:
        return build(plan, slot, work, begun)
    except BaseException:
        if under_way:
            tell("failed", slot=slot)
            under_way = False
        raise
    finally:
        if under_way:
            tell("built", slot=slot)


def group_of(folder: Path) -> str:
    """The W&B group of a run: its folder's name, or the sweep's for a job of a sweep."""
    return folder.parent.name if folder.parent.parent.name == "sweeps" else folder.name


def _head(config: DictConfig, folder: Path, plan: Plan, kind: str) -> dict[str, Any]:
    wandb = OmegaConf.to_container(config.runtime.wandb, resolve=True)
    assert isinstance(wandb, dict)
    swept = kind == "sweep" or folder.parent.parent.name == "sweeps"
    constitution = config.get("constitution")
    return {
        **wandb,
        "mode": "offline" if _OUTAGE in os.environ else wandb["mode"],
        "group": wandb["group"] or group_of(folder),
        "kind": kind,
        "token": f"{time.time_ns():x}",  # makes the names that W&B knows runs by its own, in one folder too
        "store": str(plan.store.root.absolute()),
        "experiment": str(config.name),
        "sweep": str(config.get("sweep", "")) if swept else None,
        "replicate": config.replicate if kind == "run" else None,
        "constitution": str(constitution.get("name", "")) if isinstance(constitution, DictConfig) else None,
    }


@contextlib.contextmanager
def _process(folder: Path, patience: float) -> Iterator[None]:
    """The process that reads the events, ended or killed on leaving. It ends by itself should this one be killed."""
    paths = os.pathsep.join(path for path in sys.path if path)
    with (folder / PLACE / SAID).open("ab") as errors:
        tracker = subprocess.Popen(
            [sys.executable, "-m", TRACKER, str(folder.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C is for the run, which then says what has become of it
        )
    assert tracker.stdin is not None and tracker.stdout is not None
    listener = threading.Thread(target=_listen, args=(tracker.stdout,), daemon=True)
    listener.start()
    try:
        yield
    finally:
        tracker.stdin.close()
        try:
            code = tracker.wait(patience)
            listener.join()
            if code:
                log.warning("W&B: its process ended with code %d, see %s", code, folder / PLACE / SAID)
        except subprocess.TimeoutExpired:
            os.environ[_OUTAGE] = "1"
            log.warning("W&B is not done after %g s: left; `cai sync %s` sends the rest", patience, folder)
        finally:
            tracker.kill()
            tracker.wait()
            listener.join()
            tracker.stdout.close()


def _listen(lines: Any) -> None:
    """Logs what the process says, and remembers an outage for the other jobs of this process."""
    for line in lines:
        said = json.loads(line)
        log.warning("W&B: %s", said["warning"])
        if said["outage"]:
            os.environ[_OUTAGE] = "1"
