"""What a command line asks for: one job, the jobs of a multirun, or a search whose points nobody knows beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig

from cai_lightning.experiment.compose import compose_config, jobs, parse
from cai_lightning.experiment.errors import UserError
from cai_lightning.experiment.space import axes_of, corners

BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
SEARCH = "hydra_plugins.cai_lightning.Search"
MULTIRUN = ("-m", "--multirun")


@dataclass(frozen=True)
class Asked:
    """`arguments` for Hydra, flags first; `jobs`, the overrides of every job, of a search those at two of its corners.

    `hydra` is Hydra's own node of a multirun; None for a run of one job.
    """

    arguments: list[str]
    jobs: list[list[str]]
    hydra: DictConfig | None

    @property
    def search(self) -> Any:
        """The node of the sweeper that chooses the points as it goes; None where all jobs are known."""
        return None if self.hydra is None or self.hydra.sweeper._target_ == BASIC else self.hydra.sweeper


def asked(arguments: list[str]) -> Asked:
    """Reads a command line; of one job nothing is composed. Raises UserError."""
    flags = [text for text in arguments if text in MULTIRUN]
    overrides = [text for text in arguments if text not in MULTIRUN]
    parsed = parse(overrides)
    wanted = [*flags, *overrides]
    if not flags and not any(text.startswith("sweeps=") for text in overrides):
        return Asked(wanted, [overrides], None)
    finite = [text for text, override in zip(overrides, parsed, strict=True) if not override.is_interval_sweep()]
    hydra = compose_config(jobs(finite)[0], hydra_config=True).hydra
    if not flags and hydra.mode is not RunMode.MULTIRUN:
        return Asked(wanted, [overrides], None)
    params = [f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()]
    found = Asked(wanted, [], hydra)
    if found.search is None:
        found.jobs.extend(jobs([*params, *overrides]))
    elif found.search._target_ == SEARCH:
        fixed, axes = axes_of([*params, *overrides])
        if not axes:
            raise UserError("hydra.sweeper.params: nothing to search; give a key an interval(a, b) or choices a,b")
        found.jobs.extend([*fixed, *corner] for corner in corners(axes))
    else:
        found.jobs.append(axes_of(overrides)[0])
    return found
