"""Pretraining on text, reward models and their baseline in one command, on a made-up file in the format of hh-rlhf."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SMALL = ["hidden_size=8", "heads=2", "intermediate_size=8", "vocabulary=300", "fit.epochs=1"]


def write(path: Path, pairs: int, first: int) -> None:
    """Pairs in which the reply that says "sorry" is better."""
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for number in range(first, first + pairs):
            asked = f"\n\nHuman: question {number}?\n\nAssistant:"
            replies = {"chosen": f"{asked} sorry, no {number}", "rejected": f"{asked} take {number} of them"}
            file.write(json.dumps(replies) + "\n")


@pytest.fixture(scope="module")
def latest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward")
    (folder / "hh-rlhf").mkdir()
    write(folder / "hh-rlhf" / "harmless-base.train.jsonl.gz", 40, 0)
    write(folder / "hh-rlhf" / "harmless-base.test.jsonl.gz", 12, 40)
    small = [f"stages.{base}.{size}" for base in ("base", "base_1", "base_2") for size in SMALL]
    given = [f"data.root={folder}", f"runtime.outputs={folder / 'outputs'}", "runtime.progress=off"]
    command = [sys.executable, "-m", "cai_lightning", "run", "experiment=hh_reward", *given, *small]
    done = subprocess.run(
        [*command, "runtime.wandb.mode=disabled"], check=False, capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "bag of words" in done.stdout
    return folder / "outputs" / "latest"


def test_the_run_ends_with_accuracies_and_paired_differences(latest: Path) -> None:
    found: dict[str, Any] = json.loads((latest / "reward.json").read_text())["figures"]
    assert list(found) == [
        "shorter",
        "bag_of_words",
        "reward_model",
        "ensemble",
        "difference",
        "ensemble_difference",
    ]
    assert found["bag_of_words"]["value"] == 1 and {one["n"] for one in found.values()} == {12}
    assert found["difference"]["value"] == pytest.approx(found["reward_model"]["value"] - 1)


def test_base_models_differ_by_seed_and_have_read_every_prompt_once(latest: Path) -> None:
    folders = sorted((latest.parent / "store" / "pretrain_text").iterdir())
    assert len(folders) == 3
    assert len({(folder / "model.safetensors").read_bytes() for folder in folders}) == 3
    assert len({(folder / "tokenizer.json").read_bytes() for folder in folders}) == 1
    for folder in folders:
        counts = json.loads((folder / "counts.json").read_text())
        assert counts["texts"] == 80 and counts["vocabulary"] <= 300
