"""Commands side by side: started as places become free, told live, stopped together.

Each ends when this process does, however that ends (`worker.UNTIL`).
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cai_lightning.experiment.errors import failed
from cai_lightning.experiment.worker import UNTIL

OUTPUT = "output.log"
POLL_SECONDS = 0.2
GRACE_SECONDS = 30  # more than a job gives to processes of its own
log = logging.getLogger("cai")


@dataclass(frozen=True)
class Job:
    """A command with its name in messages, its folder, and the file in it that stands for its success."""

    name: str
    folder: Path
    command: list[str]
    proof: str


@dataclass(frozen=True)
class Started:
    """A running job, what it writes to and where in it, the clock when it began, and its place among those at once."""

    job: Job
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    begin: int
    clock: float
    place: int


def run_together(jobs: Sequence[Job], *, n_jobs: int, devices: Sequence[str]) -> None:
    """Runs every job to its end, at most `n_jobs` at once, each on its own entry of `devices`, if there are.

    Says when one starts, ends or fails; names of those that failed stand in `errors.failed`. Whatever ends this early,
    such as Ctrl-C, asks all that run to end and waits for them.
    """
    waiting, running = deque(jobs), list[Started]()
    try:
        while waiting or running:
            while waiting and len(running) < n_jobs:
                place = min(set(range(n_jobs)) - {one.place for one in running})
                running.append(_start(waiting.popleft(), place, _environment(place, n_jobs, devices)))
            time.sleep(POLL_SECONDS)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                _tell(one)
    finally:
        _stop(running)


def _start(job: Job, place: int, environment: dict[str, str]) -> Started:
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / job.proof).unlink(missing_ok=True)
    output = (job.folder / OUTPUT).open("ab")
    process = subprocess.Popen(
        job.command,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,  # Ctrl-C reaches this process, which stops each job once
    )
    log.info("%s: started; it writes to %s", job.name, os.path.relpath(job.folder / OUTPUT))
    return Started(job, process, output, output.tell(), time.monotonic(), place)


def _environment(place: int, n_jobs: int, devices: Sequence[str]) -> dict[str, str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths, UNTIL: "1"}
    if n_jobs > 1:
        environment.setdefault("OMP_NUM_THREADS", "1")
    if devices:
        environment["CUDA_VISIBLE_DEVICES"] = devices[place % len(devices)]
    return environment


def _tell(one: Started) -> None:
    seconds = time.monotonic() - one.clock
    _close(one)
    if one.process.returncode == 0 and (one.job.folder / one.job.proof).exists():
        log.info("%s: finished after %.1f s", one.job.name, seconds)
        return
    failed.append(one.job.name)
    log.error("cai: %s: %s (failed after %.1f s)", one.job.name, _error(one), seconds)


def _error(one: Started) -> str:
    """The line of error that the job wrote, or how it ended."""
    with (one.job.folder / OUTPUT).open("rb") as file:
        file.seek(one.begin)
        lines = file.read().decode(errors="replace").splitlines()
    said = [line.removeprefix("cai: ") for line in lines if line.startswith("cai: ")]
    code = one.process.returncode
    killed = f"its process was killed by signal {-code}" if code < 0 else f"its process ended with code {code}"
    return said[-1] if said else f"{killed}; see {os.path.relpath(one.job.folder / OUTPUT)}"


def _stop(running: Sequence[Started]) -> None:
    """Asks all to end, as Ctrl-C would, and ends those that do not."""
    for one in running:
        one.process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for one in running:
        try:
            one.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()
        _close(one)


def _close(one: Started) -> None:
    assert one.process.stdin is not None
    one.process.stdin.close()
    one.output.close()
