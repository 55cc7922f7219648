"""Launchers of others: joblib's, and submitit's, which on a cluster gives jobs to Slurm and here starts processes."""

from pathlib import Path

import pytest
from toy_runs import cai, noted


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_jobs_of_another_launcher_share_what_they_can_and_end_in_one_joint_report(
    tmp_path: Path, launcher: str
) -> None:
    asked = ("-m", f"hydra/launcher={launcher}", "stages.toy.x=1.0,2.0")
    done = cai(tmp_path, *asked)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "out" / "sweeps").iterdir()
    stages = [line["what"] for line in noted(tmp_path) if line["what"] != "report"]
    assert sorted(stages) == ["shared", "x=1.0", "x=2.0"]
    assert sorted(line["job"] for line in noted(tmp_path) if line["what"] == "report") == ["0", "1", sweep.name]
    before = len(noted(tmp_path))
    assert cai(tmp_path, *asked).returncode == 0
    assert [line["what"] for line in noted(tmp_path)[before:] if line["what"] != "report"] == []
