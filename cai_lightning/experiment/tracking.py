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
_AGENT = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH")  # set by `wandb agent` for what it starts
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

        head = _head(config, folder, plan, kind)
        tell("start", **head)
        failed = True
        with logging_process(folder, mode=head["mode"], patience=float(wandb.patience)):
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
    swept = kind == "sweep" or folder.parent.parent.name == "sweeps" or "WANDB_SWEEP_ID" in os.environ
    constitution = config.get("constitution")
    return {
        **wandb,
        "mode": "offline" if _OUTAGE in os.environ else wandb["mode"],
        "group": wandb["group"] or group_of(folder),
        "kind": kind,
        "agent": {name: os.environ[name] for name in _AGENT if name in os.environ},
        "token": f"{time.time_ns():x}",  # makes the names that W&B knows runs by its own, in one folder too
        "store": str(plan.store.root.absolute()),
        "experiment": str(config.name),
        "sweep": str(config.get("sweep", "")) if swept else None,
        "replicate": config.replicate if kind == "run" else None,
        "constitution": str(constitution.get("name", "")) if isinstance(constitution, DictConfig) else None,
    }


@contextlib.contextmanager
def logging_process(folder: Path, *, mode: str, patience: float) -> Iterator[None]:
    """The process that reads the events of a run's folder.

    On leaving it has `patience` seconds. Then one that waits for the network is killed; one that writes files ends by
    itself, as it does when this process is killed.
    """
    paths = os.pathsep.join(path for path in sys.path if path)
    with (folder / PLACE / SAID).open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", TRACKER, str(folder.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            # what an agent says is about one W&B run and would become that of every one of them
            env={**{k: v for k, v in os.environ.items() if k not in _AGENT}, "PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C is for the run, which then says what has become of it
        )
    assert process.stdin is not None
    listener = _Listener(process)
    listener.start()
    try:
        yield
    finally:
        process.stdin.close()
        if listener.silent.wait(patience):
            if not listener.done:
                log.warning("W&B: its process broke off, see %s; the run goes on", folder / PLACE / SAID)
            _kill(process)
        elif mode == "online" and _OUTAGE not in os.environ:
            os.environ[_OUTAGE] = "1"
            _kill(process)
            log.warning("W&B: not done after %g s and left; `cai sync %s` sends the rest", patience, folder)
        else:
            log.warning("W&B: still writing to %s; it ends by itself", folder / PLACE)


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


class _Listener(threading.Thread):
    """Logs what the process says until it is `done`, and remembers an outage for the other jobs of this process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(daemon=True)
        self._process = process
        self.silent, self.done = threading.Event(), False

    def run(self) -> None:
        """Ends with the process, so that one that is left to itself is no zombie in a sweep's."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                said = json.loads(line)
                self.done = "done" in said
                if self.done:
                    break
                log.warning("W&B: %s", said["warning"])
                if said["outage"]:
                    os.environ[_OUTAGE] = "1"
        self.silent.set()
        self._process.wait()
