"""Every sweep says what it asks, plans all of its jobs, and states claims about arms that its jobs make."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cai_lightning.experiment.asked import asked
from cai_lightning.experiment.compose import ROOT, compose_config
from cai_lightning.experiment.multirun import variants
from cai_lightning.experiment.pipeline import Plan, make_plan

SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))
# the first questions: those of the paper that `make science` runs
QUESTIONS = re.search(r"^SCIENCE := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()  # type: ignore[index]
POINT = re.compile(r"@\d+$")


def points(sweep: Path) -> list[list[str]]:
    """The overrides of every job, of a search those of two of its corners."""
    return asked([f"sweeps={sweep.stem}"]).jobs


def planned(overrides: list[str], outputs: Path) -> Plan:
    return make_plan(compose_config([*overrides, f"runtime.outputs={outputs}"]))


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_states_its_question_and_its_first_and_last_job_have_a_plan(sweep: Path, tmp_path: Path) -> None:
    head = "".join(line for line in sweep.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert all(f"# {word}" in head for word in ("Question:", "Prediction:", "Runs")), "a header says what is asked"
    assert OmegaConf.load(sweep).sweep == sweep.stem
    jobs = points(sweep)
    first, last = (planned(job, tmp_path) for job in (jobs[0], jobs[-1]))
    assert len(jobs) == 1 or first.names() != last.names(), "an axis that moves no key"


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_of_the_paper_is_one_override_away_from_real_models(name: str, tmp_path: Path) -> None:
    """HH pairs of people in the place of simulated annotators, and nothing that only the micro-world knows."""
    first, *_ = asked([f"sweeps={name}", "experiment=qwen2_0_5b"]).jobs
    nodes = planned(first, tmp_path).nodes
    assert "findings" in nodes and "calibration" not in nodes
    assert not any("microworld" in str(node.values) for slot, node in nodes.items() if slot != "findings")


@pytest.mark.parametrize(
    "sweep", [path for path in SWEEPS if "claims:" in path.read_text()], ids=lambda path: path.stem
)
def test_claims_are_about_settings_that_the_jobs_have(sweep: Path, tmp_path: Path) -> None:
    jobs = points(sweep)
    for number, job in enumerate(jobs):
        (tmp_path / str(number) / ".hydra").mkdir(parents=True)
        OmegaConf.save(OmegaConf.create(job), tmp_path / str(number) / ".hydra" / "overrides.yaml")
    settings = set(variants([tmp_path / str(number) for number in range(len(jobs))]))
    values = planned(jobs[0], tmp_path).nodes["findings"].values
    for claim in values["claims"]:
        arms: dict[str, Any] = {**claim["of"], **(claim.get("without") or {})}
        for arm in arms:
            setting = POINT.sub("", arm).partition(" [")[2].removesuffix("]")
            assert not setting or setting in settings, f"{arm}: the jobs have {sorted(settings)}"
        shown = values["figure"]["metrics"]
        assert claim["metric"] in values["metrics"] and set(shown) <= set(values["metrics"])
