"""The command of a run or sweep, from overrides as Hydra leaves them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from cai_lightning.report.commands import command
from cai_lightning.report.finished import read_all


def kept(folder: Path, overrides: list[str] | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"experiment": "one", "keys": {}}))
    if overrides is not None:
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        (
            [[f"replicate={r}", f"s.k={k}", "sweeps=kl", "runtime.outputs=/x"] for r in (0, 1) for k in (0.1, 0.2)],
            "cai run sweeps=kl replicate=0,1 s.k=0.1,0.2",
        ),
        (
            [["experiment=[smoke,a]", "~stages.x"], ["experiment=[smoke,b]", "~stages.x"]],
            "cai run -m 'experiment=[smoke,a],[smoke,b]' '~stages.x'",
        ),
        # no grid, as in a search: what differs is the file's
        ([["sweeps=search", "a=1", "b=1", "c=3"], ["sweeps=search", "a=2", "b=2", "c=3"]], "cai run sweeps=search c=3"),
        ([["a=1", "b=1"], ["a=2", "b=2"]], ""),
        ([["a=1"], None], ""),
    ],
)
def test_a_sweep_has_every_value_of_its_jobs(tmp_path: Path, jobs: list[list[str] | None], words: str) -> None:
    kept(tmp_path, None)
    for number, overrides in enumerate(jobs):
        kept(tmp_path / str(number), overrides)
    (run,) = read_all([tmp_path], tmp_path)
    assert command(run) == words


def test_a_run_has_its_own_settings(tmp_path: Path) -> None:
    kept(tmp_path, ["stages.ppo.kl.kl_coef=0.2", "experiment=smoke", "runtime.wandb.mode=disabled"])
    (run,) = read_all([tmp_path], tmp_path)
    assert command(run) == "cai run experiment=smoke stages.ppo.kl.kl_coef=0.2"
