"""The baselines on real files, end to end with a tiny random model; labels and counts are known from the files."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.text.records import Label, read_rows

DATA = os.environ.get("CAI_SHARED_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="CAI_SHARED_DATA names no folder with the released files")

ASKED = "\n\nHuman: What do you call number {}?\n\nAssistant:"
# the players of experiment=hh_files_baselines; its labels of helpfulness are given below
QUESTION = ["sweeps=frontier", "hydra.mode=RUN", "experiment=hh_files"]
# fewer rows than the experiment's own, and no tables about public files, which are tested elsewhere
SMALL = [
    *(f"data.{name}.0.limit=6" for name in ("red_team", "helpful", "pair_red_team", "reward_test_harmless")),
    *(f"data.{name}.limit=4" for name in ("rl.0", "rl.1", "eval.0", "eval.1")),
    *(f"data.{name}.0.limit=12" for name in ("human_labels", "harmless_labels")),
    *(f"~report.tables.{name}" for name in ("multiple_choice", "multiple_choice_thoughts", "surface", "plain_text")),
    "report.evals=null",
    "stages.revisions.rounds=1",
    "stages.ppo.iterations=1",
    "stages.ppo.rollouts=8",
    "stages.ppo.snapshots=[]",
    "stages.ratings.resamples=50",
    "runtime.progress=off",
    "runtime.wandb.mode=disabled",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run facts, summary, and a reader of a slot's labels; helpful-base is of the test's own making."""
    assert DATA is not None
    folder = tmp_path_factory.mktemp("baselines")
    text, model, helpful = (
        Path(DATA) / "hh-rlhf" / "harmless-base.train.jsonl.gz",
        folder / "tiny",
        folder / "helpful.gz",
    )
    pairs = [{name: f"{ASKED.format(i)} {name} {i}" for name in ("chosen", "rejected")} for i in range(12)]
    with gzip.open(helpful, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(pair) + "\n" for pair in pairs)
    tiny = [sys.executable, "-m", "cai_lightning.data.tiny_model", "--text", str(text), "--out", str(model)]
    subprocess.run(tiny, check=True, capture_output=True)
    labels = {"path": helpful, "kind": "benign", "skip": 0}
    files = [f"model.path={model}", f"data.root={DATA}"]
    files += [f"data.human_labels.0.{name}={value}" for name, value in labels.items()]
    command = [sys.executable, "-m", "cai_lightning", "run", *QUESTION, *files, *SMALL]
    outputs = folder / "outputs"
    done = subprocess.run(
        [*command, f"runtime.outputs={outputs}"], check=False, capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-3000:]
    facts, summary = (json.loads((outputs / "latest" / f"{name}.json").read_text()) for name in ("run", "summary"))
    return facts, summary, lambda slot: read_rows(outputs / "store" / facts["keys"][slot], Label)


def test_all_players_are_rated(run: Any) -> None:
    players = run[1]["players"]
    assert set(players) == {"helpful_only", "rlhf_helpful", "rlhf_hh", "sl_cai", "dpo", "ppo", "ppo_cot"}
    assert all(player["harmless_elo"]["n"] == 4 for player in players.values())


def test_a_question_of_the_paper_is_asked_of_real_files(run: Any) -> None:
    """What no axis moves has its claims; the control is an annotator's whom files do not have, and says so."""
    claims = {claim["says"]: claim for claim in run[1]["tables"]["findings"]["claims"]}
    assert claims["RL-CAI is more harmless than SL-CAI"]["n"] == 4
    assert claims["RL-CAI is more harmless than HH RLHF"]["words"].startswith(
        "not measured: no harmless_elo of rlhf_hh ["
    )


def test_helpful_labels_are_of_one_file_and_harmless_ones_of_the_other(run: Any) -> None:
    assert DATA is not None
    helpful, harmless = run[2]("human_labels"), run[2]("harmless_annotations")
    assert [(row.a, row.b, row.p_a) for row in helpful] == [(f"chosen {i}", f"rejected {i}", 1.0) for i in range(12)]
    with gzip.open(Path(DATA) / "hh-rlhf" / "harmless-base.train.jsonl.gz", "rt", encoding="utf-8") as file:
        pairs = [(row["chosen"], row["rejected"]) for row in map(json.loads, file)]
    assert len(harmless) == 12
    assert all(any(a.endswith(row.a) and b.endswith(row.b) for a, b in pairs) for row in harmless)


def test_labels_after_a_thought_stay_within_the_papers_clamp(run: Any) -> None:
    at_once, thought = run[2]("labels"), run[2]("labels_cot")
    assert [row.id for row in thought] == [row.id for row in at_once]
    assert all(len(row.thoughts) == 2 and 0.4 <= row.p_a <= 0.6 for row in thought)
    assert not any(row.thoughts for row in at_once)
