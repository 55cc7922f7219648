"""Where a stage function runs: in this process, or in one or several of its own.

A process of its own gives back all memory of the machine and of its device when a stage ends (`runtime.isolate`). A
stage whose fit asks for N devices runs as N processes that find each other by the environment; the first writes.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cai_lightning.experiment.artifact import WORK
from cai_lightning.experiment.errors import UserError
from cai_lightning.experiment.targets import construct, locate

WORKER = "cai_lightning.experiment.worker"
GRACE_SECONDS = 10


class InWorker(Exception):
    """The traceback of another process, for the run's log."""


def make(folder: Path, target: str, values: dict[str, Any]) -> dict[str, Any]:
    """Calls a stage function on its folder; what its own processes used, empty where it ran in this one.

    `values` are its recipe with paths in place. Raises UserError with the line that a worker's error says.
    """
    count = processes(values)
    os.environ["CAI_CHECKPOINTS"] = str(folder.absolute() / WORK)  # one place for all of its processes
    if count == 1 and os.environ.get("CAI_ISOLATE") != "1":
        locate(target)(folder, **construct(values))
        return {}
    with tempfile.TemporaryDirectory() as scratch:
        folders = [folder, *(Path(scratch) / str(rank) / folder.name for rank in range(1, count))]
        for other in folders[1:]:
            other.mkdir(parents=True)
        with _started(count) as workers:
            for worker, place in zip(workers, folders, strict=True):
                assert worker.stdin is not None
                with contextlib.suppress(BrokenPipeError):  # its end will say why
                    pickle.dump((place, target, values), worker.stdin)
                    worker.stdin.flush()
            used = _replies(workers)
    return {"cpu_seconds": round(sum(one.pop("cpu_seconds") for one in used), 3), **_largest(used)}


def processes(values: dict[str, Any]) -> int:
    """The number of processes that a stage runs as: the devices of its fit."""
    fit = values.get("fit")
    return int(fit.get("devices", 1)) if isinstance(fit, dict) else 1


@contextlib.contextmanager
def _started(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The worker processes; whichever still runs on leaving is stopped. Their stdin stays open: its end is theirs."""
    command = [sys.executable, "-m", WORKER]
    paths = os.pathsep.join(path for path in sys.path if path)
    workers = []
    try:
        for place in _places(count):
            environment = {**os.environ, "PYTHONPATH": paths, **place}
            pipe = subprocess.PIPE
            workers.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment))
        yield workers
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            try:
                worker.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()
            for pipe_end in (worker.stdin, worker.stdout):
                with contextlib.suppress(BrokenPipeError):
                    assert pipe_end is not None
                    pipe_end.close()


def _places(count: int) -> Iterator[dict[str, str]]:
    """What each process learns of the others; one alone learns nothing."""
    if count == 1:
        yield {}
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    for rank in range(count):
        quiet = {"CAI_PROGRESS": "off"} if rank else {}
        group = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        yield {"RANK": str(rank), "LOCAL_RANK": str(rank), **group, **quiet}


def _replies(workers: Sequence[subprocess.Popen[bytes]]) -> list[dict[str, Any]]:
    """What each worker used. Raises UserError as soon as one has failed: the others would wait for it."""
    used = []
    with selectors.DefaultSelector() as ready:
        for worker in workers:
            assert worker.stdout is not None
            ready.register(worker.stdout, selectors.EVENT_READ, worker)
        while ready.get_map():
            for key, _ in ready.select():
                ready.unregister(key.fileobj)
                used.append(_reply(key.data))
    return used


def _reply(worker: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert worker.stdout is not None
    said = worker.stdout.read()
    code = worker.wait()
    if not said:
        killed = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        raise UserError(f"the stage's process {killed} and said nothing; memory may have run out (`cai plan` shows it)")
    reply: dict[str, Any] = pickle.loads(said)
    if "error" in reply:
        raise UserError(reply["error"]) from InWorker(f"\n{reply['trace']}")
    return reply


def _largest(used: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: max(one[name] for one in used) for name in used[0]}
