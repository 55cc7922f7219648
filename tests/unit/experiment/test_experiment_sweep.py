"""A sweep is one object: the same one goes on where it was left, and no other one gets into its folder."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from toy_runs import cai, noted

from cai_lightning.experiment.asked import BASIC, Asked
from cai_lightning.experiment.errors import UserError
from cai_lightning.experiment.pipeline import Plan
from cai_lightning.experiment.run import RUN, write_json
from cai_lightning.experiment.store import Store
from cai_lightning.experiment.sweep import ended, entered, job_name


def asked(folder: Path, *jobs: list[str]) -> Asked:
    return Asked([], list(jobs), OmegaConf.create({"sweep": {"dir": str(folder)}, "sweeper": {"_target_": BASIC}}))


def plans(*reports: int) -> list[Plan]:
    return [Plan({}, {"note": report}, Store(Path("none"))) for report in reports]


JOBS = (["a=1", "b=x"], ["a=1", "b=y"])


def enter(folder: Path, *jobs: list[str], reports: tuple[int, ...] = (0, 0)) -> Path:
    with entered(asked(folder, *(jobs or JOBS)), plans(*reports)) as found:
        return found


def finish(folder: Path, *jobs: int) -> None:
    for job in jobs:
        (folder / str(job) / ".hydra").mkdir(parents=True, exist_ok=True)
        write_json(folder / str(job) / RUN, {})


def test_the_same_sweep_goes_on_until_its_jobs_and_its_joint_end_are_there(tmp_path: Path) -> None:
    first = enter(tmp_path / "one")
    assert first == tmp_path / "one"
    finish(first, 0)
    (first / "1" / ".hydra").mkdir(parents=True)
    write_json(first / RUN, {})  # the joint end without the job that failed
    assert enter(tmp_path / "two") == first
    assert not (first / RUN).exists()
    finish(first, 1)
    assert enter(tmp_path / "two") == first  # killed before the joint end
    write_json(first / RUN, {})
    assert ended(first)
    assert enter(tmp_path / "two") == tmp_path / "two"


def test_another_sweep_has_another_folder(tmp_path: Path) -> None:
    first = enter(tmp_path / "0")
    assert enter(tmp_path / "1", ["a=1", "b=x", "runtime.threads=2", "hydra/launcher=processes"], JOBS[1]) == first
    assert enter(tmp_path / "2", JOBS[0], ["a=1", "b=z"]) == tmp_path / "2"
    assert enter(tmp_path / "3", JOBS[1], JOBS[0]) == tmp_path / "3"
    assert enter(tmp_path / "4", reports=(0, 1)) == tmp_path / "4"


def test_a_folder_that_was_asked_for_takes_one_sweep_only(tmp_path: Path) -> None:
    first = enter(tmp_path / "mine")
    finish(first, 0, 1)
    write_json(first / RUN, {})
    assert enter(first) == first
    with pytest.raises(UserError, match="holds another sweep"):
        enter(first, ["a=2"], reports=(0,))


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path) -> None:
    with entered(asked(tmp_path / "one", *JOBS), plans(0, 0)) as first:
        assert enter(tmp_path / "two") == tmp_path / "two"
        with pytest.raises(UserError, match="another process is at work"):
            enter(first)


def test_a_job_is_called_by_what_sets_it_apart(tmp_path: Path) -> None:
    folder = enter(tmp_path / "one", ["a=[1,2]", "s.kl.coef=0.1"], ["a=[1,2]", "s.kl.coef=0.2"])
    assert job_name(folder, 1, ["a=[1, 2]", "s.kl.coef=0.2", "runtime.threads=1"]) == "job 1 (coef=0.2)"
    assert job_name(tmp_path, 0, ["a=1"]) == "job 0"


def test_a_job_that_failed_is_told_at_once_and_made_alone_the_next_time(tmp_path: Path) -> None:
    sweep = ("-m", "stages.toy.x=2.0,3.0")
    done = cai(tmp_path, *sweep, TOY_FAIL="2.0")
    assert done.returncode == 1
    assert "cai: job 0 (x=2.0): stages.toy: x: 2.0 is not wanted today\n" in done.stderr
    assert next(line["job"] for line in noted(tmp_path) if line["what"] == "report") == "1"
    before = len(noted(tmp_path))
    done = cai(tmp_path, *sweep)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 jobs are finished" in done.stderr
    (folder,) = (tmp_path / "out" / "sweeps").iterdir()
    assert [(line["what"], line["job"]) for line in noted(tmp_path)[before:] if "partial" not in line["job"]] == [
        ("report", "0"),
        ("report", folder.name),
    ]
    assert [line["what"] for line in noted(tmp_path)[before:]].count("x=2.0") == 1
