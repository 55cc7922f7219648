"""A sweep is one object: what makes it the same one, the folder that it goes on in, and each of its jobs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cai_lightning.experiment.asked import Asked
from cai_lightning.experiment.compose import parse
from cai_lightning.experiment.digest import json_digest
from cai_lightning.experiment.errors import UserError, failures
from cai_lightning.experiment.pipeline import Plan
from cai_lightning.experiment.run import RUN, execute, write_json

SWEEP = "sweep.json"
ELSEWHERE = ("runtime", "hydra")  # overrides that change no result
BUDGET = "n_trials"  # more of them is the same search, longer


def identity(wanted: Asked, plans: Sequence[Plan]) -> dict[str, Any]:
    """What a sweep is, as JSON: the overrides and the recipe of every job, and the settings of a search."""
    search = wanted.search
    settings = None if search is None else OmegaConf.to_container(search, resolve=True)
    if isinstance(settings, dict):
        settings.pop(BUDGET, None)
    jobs = [
        {"overrides": recipe_overrides(overrides), "recipe": _recipe(plan)}
        for overrides, plan in zip(wanted.jobs, plans, strict=True)
    ]
    return {"jobs": jobs, "search": settings}


def recipe_overrides(overrides: Sequence[str]) -> list[str]:
    """Those that are no matter of this machine, in Hydra's own spelling."""
    out = []
    for override in parse(list(overrides)):
        if override.key_or_group.replace("/", ".").split(".")[0] not in ELSEWHERE:
            value = "" if override.is_delete() else override.get_value_element_as_str()
            out.append(f"{override.get_key_element()}={value}")
    return out


def _recipe(plan: Plan) -> str:
    report = json.loads(json.dumps(plan.report, default=repr))
    return json_digest({"keys": plan.names(), "report": report})


@contextlib.contextmanager
def entered(wanted: Asked, plans: Sequence[Plan]) -> Iterator[Path]:
    """The folder of a sweep, this process's alone meanwhile: where the same one was left unfinished, or a new one.

    Raises UserError where the folder that was asked for holds another sweep, or a process works in it.
    """
    assert wanted.hydra is not None
    today = identity(wanted, plans)
    folder, held = _place(Path(wanted.hydra.sweep.dir), today)
    if held is None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / SWEEP, today)
        held = _lock(folder)
    else:
        _say(folder, today)
    (folder / RUN).unlink(missing_ok=True)  # the joint end is made again
    try:
        yield folder
    finally:
        if held is not None:
            held.close()


def _place(folder: Path, today: dict[str, Any]) -> tuple[Path, IO[str] | None]:
    """The folder to work in, with its lock where it holds this sweep already."""
    if not folder.exists():
        return _left(folder.parent, today) or (folder, None)
    said = known(folder)
    if said != today and (said or any(folder.glob("*/.hydra"))):
        raise UserError(f"hydra.sweep.dir: {folder} holds another sweep; give a folder of its own")
    if not said:
        return folder, None
    if (held := _lock(folder)) is None:
        raise UserError(f"hydra.sweep.dir: another process is at work in {folder}; wait for it")
    return folder, held


def _left(sweeps: Path, today: dict[str, Any]) -> tuple[Path, IO[str]] | None:
    """The newest folder of this sweep, locked; None where it is finished, or another process works in it."""
    same = [file.parent for file in sweeps.glob(f"*/{SWEEP}") if known(file.parent) == today]
    if not same:
        return None
    newest = max(same, key=lambda folder: (folder / SWEEP).stat().st_mtime)
    if ended(newest) or (held := _lock(newest)) is None:
        return None
    return newest, held


def ended(folder: Path) -> bool:
    """Whether a sweep has its joint end and all jobs that were begun have theirs."""
    begun = [path.parent for path in folder.glob("*/.hydra")]
    done = [job for job in begun if (job / RUN).exists()]
    said = known(folder)
    return (folder / RUN).exists() and len(done) == max(len(begun), 0 if said["search"] else len(said["jobs"]))


def known(folder: Path) -> dict[str, Any]:
    """What a sweep's folder says of itself; empty where it says nothing."""
    try:
        return json.loads((folder / SWEEP).read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    except (OSError, ValueError):
        return {}


def _lock(folder: Path) -> IO[str] | None:
    file = (folder / SWEEP).open("r", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _say(folder: Path, today: dict[str, Any]) -> None:
    done = len([*folder.glob(f"*/{RUN}")])
    of = "" if today["search"] else f" of {len(today['jobs'])}"
    print(f"goes on in {os.path.relpath(folder)}: {done}{of} jobs are finished", file=sys.stderr)


def job_name(folder: Path, number: Any, overrides: Sequence[str]) -> str:
    """`job 2 (kl_coef=0.1)`: the number, and the overrides that not all jobs of the sweep in `folder` have."""
    jobs = [set(job["overrides"]) for job in known(folder).get("jobs", [])]
    common = set.intersection(*jobs) if len(jobs) > 1 else set(recipe_overrides(overrides))
    apart = [short(text) for text in recipe_overrides(overrides) if text not in common]
    return f"job {number} ({', '.join(apart)})" if apart else f"job {number}"


def short(override: str) -> str:
    """An override without the way to its key."""
    key, sign, value = override.partition("=")
    return key.rpartition(".")[2] + sign + value


def run_job(config: DictConfig) -> None:
    """One job, inside Hydra; an error is noted in one line. Paths are relative to where the command was given.

    It stands here for launchers that hand it to other processes, which have loaded nothing of ours.
    """
    here = HydraConfig.get()
    os.chdir(here.runtime.cwd)
    multirun = here.mode is RunMode.MULTIRUN
    name = job_name(Path(here.sweep.dir), here.job.num, here.overrides.task) if multirun else ""
    with failures(name):
        execute(config, Path(here.runtime.output_dir), again=not multirun)
