"""A constitution taken apart through the command line, on a minute world: reward models first, then labels."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SMOKE = ["experiment=smoke", "constitution=two_principles", "runtime.progress=off"]
IDS = {"harmful_unethical", "wrong_bad"}


def ablate(outputs: Path, *extra: str) -> str:
    command = [sys.executable, "-m", "cai_lightning", "ablate", *SMOKE, f"runtime.outputs={outputs}", *extra]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=outputs.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def found(outputs: Path, stage: str) -> list[Any]:
    return [json.loads(file.read_text()) for file in (outputs / "store" / stage).glob("*/attribution.json")]


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "attribution.csv").read_text(encoding="utf-8").splitlines()))


def test_a_price_then_reward_models_without_each_principle_then_labels(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    assert "results: 0 exist" in ablate(outputs, "through=reward_model", "--price")
    assert not (outputs / "sweeps").exists() and not (outputs / "store" / "base").exists()
    said = ablate(outputs, "through=reward_model")
    assert said.index("to build: about") < said.index("report: ")
    joint = outputs / "latest"
    assert (joint / "report.html").is_file() and (joint / "figures" / "leave_one_out.png").is_file()
    assert {row["principle"] for row in rows(joint)} == IDS
    # with all and without each: three reward models on one set of labels under both principles
    assert len(list((outputs / "store" / "reward_model").glob("*/manifest.json"))) == 3
    assert len(list((outputs / "store" / "label").glob("*/manifest.json"))) == 1
    assert sorted(len(one["principles"]) for one in found(outputs, "reward_attribution")) == [0, 0, 0, 2]

    ablate(outputs)
    run = json.loads((outputs / "latest" / "run.json").read_text())
    built = {slot for slot, seeds in run["stages"].items() for fact in seeds.values() if not fact["reused"]}
    assert built == {"labels_every_helpful", "truth_harmless", "truth_helpful", "attribution"}
    (table,) = found(outputs, "attribution")
    one, other = (entry["effects"]["leave_one_out"]["helpful"]["value"] for entry in table["principles"])
    # no harmless pair of so few has a better reply; of two principles, what one gives the other takes away
    assert abs(one + other) < 1e-12
    assert {row["criterion"] for row in rows(outputs / "latest")} == {"harmless", "helpful"}
