"""A Hydra launcher: each job of a multirun as `cai run` in a process of its own, several at once.

A job may be several processes itself (`fit.devices`). What jobs share is made once, by the store's locks.
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

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from cai_lightning.experiment.compose import parse, quoted
from cai_lightning.experiment.errors import failed
from cai_lightning.experiment.pipeline import make_plan
from cai_lightning.experiment.run import RUN, finished
from cai_lightning.experiment.sweep import job_name
from cai_lightning.experiment.worker import UNTIL

OUTPUT = "output.log"
POLL_SECONDS = 0.2
GRACE_SECONDS = 30  # more than a job gives to processes of its own
OURS = ("hydra.launcher", "hydra.sweeper", "hydra.sweep", "hydra.mode", "hydra.run")  # of the sweep, not of its jobs
log = logging.getLogger("cai")


@dataclass(frozen=True)
class Job:
    """One job: its name in messages, its folder, its own overrides and what Hydra knows of it."""

    name: str
    folder: Path
    overrides: list[str]
    config: DictConfig


@dataclass(frozen=True)
class Started:
    """A running job, what it writes to and where in it, the clock when it began, and its place among those at once."""

    job: Job
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    begin: int
    clock: float
    place: int


class Processes:
    """Launches jobs as processes: at most `n_jobs` at once, each on its own entry of `devices`, if there are.

    An entry is what CUDA_VISIBLE_DEVICES becomes. Where several run at once, each has one torch thread unless
    `runtime.threads` or OMP_NUM_THREADS says another number.
    """

    def __init__(self, *, n_jobs: int, devices: Sequence[str]) -> None:
        self.n_jobs = n_jobs
        self.devices = list(devices)
        self.config: DictConfig | None = None
        self.context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:  # noqa: ARG002
        """Takes over the sweep's config; the task is `cai run`, whatever it is here."""
        self.config, self.context = config, hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs the jobs and says when one starts, ends or fails; what failed stands in `errors.failed`."""
        assert self.config is not None
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        jobs = [self._job(number, list(texts)) for number, texts in enumerate(job_overrides, start=initial_job_idx)]
        waiting = deque(job for job in jobs if not _finished(job))
        running: list[Started] = []
        try:
            while waiting or running:
                while waiting and len(running) < self.n_jobs:
                    running.append(self._start(waiting.popleft(), {one.place for one in running}))
                time.sleep(POLL_SECONDS)
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    _tell(one)
        finally:
            _stop(running)
        return [_returned(job) for job in jobs]

    def _job(self, number: int, overrides: list[str]) -> Job:
        assert self.config is not None and self.context is not None
        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        with read_write(config), open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
            folder = Path(config.hydra.sweep.dir) / str(config.hydra.sweep.subdir)
            config.hydra.runtime.output_dir = str(folder.absolute())
        return Job(job_name(folder.parent, number, overrides), folder, overrides, config)

    def _start(self, job: Job, taken: set[int]) -> Started:
        assert self.config is not None
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / RUN).unlink(missing_ok=True)
        place = next(place for place in range(self.n_jobs) if place not in taken)
        kept = [text for text in self.config.hydra.overrides.hydra if not _ours(text)]
        where = [f"hydra.run.dir={quoted(job.folder.absolute())}", "hydra.mode=RUN"]
        command = [sys.executable, "-m", "cai_lightning", "run", *job.overrides, *kept, *where]
        output = (job.folder / OUTPUT).open("ab")
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=self._environment(place),
            start_new_session=True,  # Ctrl-C reaches this process, which stops each job once
        )
        log.info("%s: started; it writes to %s", job.name, os.path.relpath(job.folder / OUTPUT))
        return Started(job, process, output, output.tell(), time.monotonic(), place)

    def _environment(self, place: int) -> dict[str, str]:
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {**os.environ, "PYTHONPATH": paths, UNTIL: "1"}
        if self.n_jobs > 1:
            environment.setdefault("OMP_NUM_THREADS", "1")
        if self.devices:
            environment["CUDA_VISIBLE_DEVICES"] = str(self.devices[place % len(self.devices)])
        return environment


def _ours(override: str) -> bool:
    key = parse([override])[0].key_or_group.replace("/", ".")
    return any(key == name or key.startswith(f"{name}.") for name in OURS)


def _finished(job: Job) -> bool:
    if not (job.folder / RUN).exists():
        return False
    config = job.config.copy()
    with read_write(config), open_dict(config):
        del config["hydra"]
    return finished(make_plan(config), job.folder) is not None


def _tell(one: Started) -> None:
    seconds = time.monotonic() - one.clock
    _close(one)
    if one.process.returncode == 0 and (one.job.folder / RUN).exists():
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


def _returned(job: Job) -> JobReturn:
    done = JobReturn()
    done.overrides, done.cfg, done.hydra_cfg = job.overrides, job.config, job.config
    done.working_dir, done.task_name = os.getcwd(), job.name
    done.status, done.return_value = JobStatus.COMPLETED, None
    return done
