"""sweeps/wandb/: what an agent of W&B would call are the jobs of the Hydra sweep of that name."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from cai_lightning.experiment.asked import asked
from cai_lightning.experiment.compose import ROOT, compose_config, parse
from cai_lightning.experiment.pipeline import make_plan

FILES = sorted((ROOT / "sweeps" / "wandb").glob("*.yaml"))
QUESTIONS = [
    *(
        "coverage",
        "critique",
        "frontier",
        "label_modes",
        "mixture",
        "overoptimisation",
        "principles",
        "revisions",
        "rl_curves",
    )
]


def calls(file: Path) -> list[list[str]]:
    """The command line of every run of a grid, as W&B's agent writes it."""
    sweep = yaml.safe_load(file.read_text())
    assert sweep["method"] == "grid"
    names, values = zip(*sweep["parameters"].items(), strict=True)
    found = []
    for point in itertools.product(*(one["values"] for one in values)):
        args = create_sweep_command_args({"args": {n: {"value": v} for n, v in zip(names, point, strict=True)}})
        command: list[Any] = create_sweep_command(list(sweep["command"]))
        place = command.index("${args_no_hyphens}")
        found.append([*command[:place], *args["args_no_hyphens"], *command[place + 1 :]])
    return found


def settings(overrides: list[str]) -> dict[str, Any]:
    """What a job sets beside what an agent's runs have in common."""
    values = {one.key_or_group + (f"@{one.package}" if one.package else ""): one.value() for one in parse(overrides)}
    return {key: value for key, value in values.items() if not key.startswith(("hydra.", "runtime."))}


def ordered(jobs: list[dict[str, Any]]) -> list[str]:
    return sorted(str(sorted(job.items())) for job in jobs)


def test_each_question_has_one() -> None:
    assert [file.stem for file in FILES] == QUESTIONS


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_agents_calls_are_the_jobs_of_the_sweep(file: Path) -> None:
    called = []
    for env, program, verb, *overrides in calls(file):
        assert (env, program, verb) == ("${env}", "cai", "run")
        called.append(settings(overrides))
    assert asked(overrides).jobs == [overrides]  # one job a call
    jobs = [settings(job) for job in asked([f"sweeps={file.stem}"]).jobs]
    assert ordered(called) == ordered(jobs)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_call_of_an_agent_plans_what_the_sweeps_job_plans(file: Path, tmp_path: Path) -> None:
    """The last of either: that all ask for the same is the test before."""

    def planned(overrides: list[str]) -> dict[str, str]:
        return make_plan(compose_config([*overrides, f"runtime.outputs={tmp_path}"])).names()

    _, _, _, *overrides = calls(file)[-1]
    job = next(one for one in asked([f"sweeps={file.stem}"]).jobs if settings(one) == settings(overrides))
    assert planned(overrides) == planned(job)
