"""The command that made a finished run or sweep, from the overrides that its folders keep."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from pathlib import Path

from omegaconf import OmegaConf

from cai_lightning.report.finished import Finished

OVERRIDES = Path(".hydra") / "overrides.yaml"
APART = "runtime."  # where and how fast something ran changes no result


def command(run: Finished) -> str:
    """`cai run ...` in one line, without settings of `runtime`; empty where that is not known.

    Of a sweep each setting has all values that its jobs had. Where they are not every combination of those, as in a
    search, settings that differ are left to the file in `sweeps/`.
    """
    folders = [run.folder / job for job, _ in run.jobs] if run.is_sweep else [run.folder]
    if not all((folder / OVERRIDES).is_file() for folder in folders):
        return ""
    jobs = [dict(_settings(folder)) for folder in folders]
    if len({frozenset(job) for job in jobs}) != 1:
        return ""
    values = {key: list(dict.fromkeys(job[key] for job in jobs)) for key in jobs[0]}
    if len({tuple(job.items()) for job in jobs}) != math.prod(map(len, values.values())):
        if "sweeps=" not in values:
            return ""
        values = {key: found for key, found in values.items() if len(found) == 1}
    flags = ["-m"] if run.is_sweep and "sweeps=" not in values else []
    first = ("sweeps=", "experiment=")  # what it is about
    ordered = sorted(values, key=lambda key: first.index(key) if key in first else len(first))
    return shlex.join(["cai", "run", *flags, *(key + ",".join(values[key]) for key in ordered)])


def _settings(folder: Path) -> Iterator[tuple[str, str]]:
    """Each override as its key with the sign, and its value."""
    for text in map(str, OmegaConf.load(folder / OVERRIDES)):
        key, sign, value = text.partition("=")
        if not key.startswith(APART):
            yield key + sign, value
