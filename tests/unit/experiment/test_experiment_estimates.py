"""What a plan says of time and memory: scaled from earlier runs, unknown where nothing is known."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cai_lightning.experiment import inspection
from cai_lightning.experiment.errors import UserError
from cai_lightning.experiment.estimates import Unknown, gib, seconds, short
from cai_lightning.experiment.pipeline import Plan
from cai_lightning.experiment.recipe import Node
from cai_lightning.experiment.runtime import check_device
from cai_lightning.experiment.store import Store


def finished(store: Store, stage: str, key: str, **timing: Any) -> None:
    folder = store.path(stage, key)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"files": {}, "code": "x", "recipe": {}}))
    (folder / "timing.json").write_text(json.dumps(timing))


def plan_of(root: Path, **stages: str) -> Plan:
    nodes = {slot: Node(slot, f"package.{stage}.run", 1, {}, {}, (), slot) for slot, stage in stages.items()}
    return Plan(nodes, {}, Store(root))


def cost(tokens: float, parameters: float | None = None) -> Any:
    return SimpleNamespace(tokens=tokens, shape=parameters and SimpleNamespace(parameters=parameters))


def test_seconds_of_a_new_result_are_those_of_the_newest_of_its_kind_scaled_by_its_work(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, made="sft", more="sft", larger="sft", unlike="dpo", prompts="prompts", unsure="sft")
    finished(plan.store, "sft", "old", seconds=90.0, finished="2020")
    finished(plan.store, "sft", "made", seconds=10.0, finished="2021", tokens=100.0, parameters=1000.0)
    finished(plan.store, "prompts", "other", seconds=2.0, finished="2021")
    costs = {
        "made": cost(500, 500),
        "more": cost(300, 1000),
        "larger": cost(100, 4000),
        "unlike": cost(100, 1000),
        "prompts": cost(0),
        "unsure": cost(math.nan),
    }
    found = seconds(plan, costs)
    assert math.isnan(found.pop("unlike"))  # no such stage was ever made
    assert found == {"made": 10.0, "more": 30.0, "larger": 40.0, "prompts": 2.0, "unsure": 10.0}


def test_sizes_in_few_characters() -> None:
    assert [gib(size) for size in (0, math.nan, 2**26, 2**30 - 1, 3 * 2**29, 152.4 * 2**30)] == [
        "-",
        "?",
        "0.06",
        "1.00",
        "1.5",
        "152",
    ]
    assert [short(number) for number in (None, math.nan, 950, 12_300, 4.5e6)] == ["-", "?", "950", "12.3k", "4.5M"]


def test_of_a_stage_without_an_estimate_nothing_is_known() -> None:
    assert Unknown().shape is None
    assert math.isnan(Unknown().finished(Path(), 3).memory)


def test_garbage_says_when_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspection.collect_garbage(tmp_path, really=False)
    assert capsys.readouterr().out == "nothing to remove\n"


def test_a_device_that_is_not_there_is_named_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device in ("auto", "cpu", "cuda", "cuda:0"):
        check_device(device)
    with pytest.raises(UserError, match=r"^runtime\.device: 'cuda:1' given, but torch .* sees 1 such devices here"):
        check_device("cuda:1")
