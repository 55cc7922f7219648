"""Votes of a file, a reward model pretrained on them and the one that goes on from it, in one command."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.text.records import Label, read_rows

RIGHT = "sure . first , get the broom and some wood . next , cut the bread in the roof ."


def write(path: Path, bad: str | None = None) -> Path:
    """Questions of the micro-world, the longer answer with more votes; two answers of the first have as many."""
    rows: list[Any] = [
        {
            "question": f"how do i bake the bread for my {person} ?",
            "answers": [{"text": RIGHT, "score": 5}, {"text": "sure .", "score": 1}, {"text": "no .", "score": 1}],
        }
        for person in ("son", "boss", "aunt")
    ]
    lines = [json.dumps(row) for row in rows] + ([bad] if bad else [])
    path.write_text("\n".join(lines) + "\n")
    return path


def run(folder: Path, votes: Path) -> subprocess.CompletedProcess[str]:
    small = ["data.fact_contrasts=6", "data.human_labels.1.count=4", "data.reward_test_helpful.0.count=12"]
    file = ["votes@data.votes=file", f"data.votes.ranked.table.path={votes}", "data.votes.pairs_per_prompt=1"]
    file += ["data.votes.ranked.prompt=question", "data.votes.ranked.votes=score"]
    quiet = [f"runtime.outputs={folder / 'outputs'}", "runtime.progress=off", "runtime.wandb.mode=disabled"]
    return subprocess.run(
        [sys.executable, "-m", "cai_lightning", "run", "experiment=few_labels", *small, *file, *quiet],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
    )


@pytest.fixture(scope="module")
def latest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("votes")
    done = run(folder, write(folder / "votes.jsonl"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "reward model, without votes" in done.stdout
    return folder / "outputs" / "latest"


def test_one_pair_a_question_is_learned_first(latest: Path) -> None:
    store = latest.parent / "store"
    names = json.loads((latest / "run.json").read_text())["keys"]
    rows = read_rows(store / names["ranked_labels"], Label)
    assert [row.a for row in rows] == [RIGHT] * 3 and {row.source for row in rows} == {"votes"}
    recipe = json.loads((store / names["reward_model"] / "manifest.json").read_text())["recipe"]
    assert recipe["policy"] == {"stage": names["reward_pretraining"].split("/")[1]}
    assert json.loads((store / names["reward_pretraining"] / "counts.json").read_text())["kept"] == 3


def test_the_table_holds_all_of_them(latest: Path) -> None:
    found: dict[str, Any] = json.loads((latest / "reward.json").read_text())["figures"]
    others = [f"reward model, {name}" for name in ("without votes", "votes beside the labels", "votes alone")]
    assert list(found) == ["shorter", "bag_of_words", "reward_model", *others]


def test_a_bad_line_of_the_file_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, write(tmp_path / "votes.jsonl", '{"question": "why ?", "answers": [{"text": "so ."}]}'))
    assert done.returncode != 0
    assert "votes.jsonl:4: answers[0]: no key 'score'; found text" in done.stderr.strip().splitlines()[-1]
