"""A Hydra launcher: each job of a multirun as `cai run` in a process of its own, several at once.

A job may be several processes itself (`fit.devices`). What jobs share is made once, by the store's locks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from cai_lightning.experiment.compose import parse, quoted
from cai_lightning.experiment.pipeline import make_plan
from cai_lightning.experiment.run import RUN, finished
from cai_lightning.experiment.side_by_side import Job, run_together
from cai_lightning.experiment.sweep import job_name

OURS = ("hydra.launcher", "hydra.sweeper", "hydra.sweep", "hydra.mode", "hydra.run")  # of the sweep, not of its jobs


class Processes:
    """Launches jobs as processes: at most `n_jobs` at once, each on its own entry of `devices`, if there are.

    An entry is what CUDA_VISIBLE_DEVICES becomes. Where several run at once, each has one torch thread unless
    `runtime.threads` or OMP_NUM_THREADS says another number.
    """

    def __init__(self, *, n_jobs: int, devices: Sequence[str]) -> None:
        self.n_jobs = n_jobs
        self.devices = [str(device) for device in devices]
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
        returned = [self._returned(number, list(texts)) for number, texts in enumerate(job_overrides, initial_job_idx)]
        jobs = [self._job(one) for one in returned if not _finished(one)]
        run_together(jobs, n_jobs=self.n_jobs, devices=self.devices)
        return returned

    def _returned(self, number: int, overrides: list[str]) -> JobReturn:
        """What Hydra is told of a job: its config, and where it runs. Whether it failed stands elsewhere."""
        assert self.config is not None and self.context is not None
        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        with read_write(config), open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
            folder = Path(config.hydra.sweep.dir) / str(config.hydra.sweep.subdir)
            config.hydra.runtime.output_dir = str(folder.absolute())
        done = JobReturn()
        done.overrides, done.cfg, done.hydra_cfg = overrides, config, config
        done.working_dir, done.task_name = os.getcwd(), "cai"
        done.status, done.return_value = JobStatus.COMPLETED, None
        return done

    def _job(self, returned: JobReturn) -> Job:
        assert self.config is not None and returned.hydra_cfg is not None and returned.overrides is not None
        hydra = returned.hydra_cfg.hydra
        folder = Path(hydra.runtime.output_dir)
        kept = [text for text in self.config.hydra.overrides.hydra if not _ours(text)]
        where = [f"hydra.run.dir={quoted(folder)}", "hydra.mode=RUN"]
        command = [sys.executable, "-m", "cai_lightning", "run", *returned.overrides, *kept, *where]
        return Job(job_name(Path(hydra.sweep.dir), hydra.job.num, returned.overrides), folder, command, RUN)


def _ours(override: str) -> bool:
    key = parse([override])[0].key_or_group.replace("/", ".")
    return any(key == name or key.startswith(f"{name}.") for name in OURS)


def _finished(returned: JobReturn) -> bool:
    assert returned.hydra_cfg is not None
    folder = Path(returned.hydra_cfg.hydra.runtime.output_dir)
    if not (folder / RUN).exists():
        return False
    config = returned.hydra_cfg.copy()
    with read_write(config), open_dict(config):
        del config["hydra"]
    return finished(make_plan(config), folder) is not None
