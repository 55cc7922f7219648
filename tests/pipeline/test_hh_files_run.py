"""The thin twin on real files, end to end with a tiny random model; every count is known from the files by hand."""

import gzip
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.text.dialogue import to_text
from cai_lightning.text.records import Comparison, Label, Revision, read_rows

DATA = os.environ.get("CAI_SHARED_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="CAI_SHARED_DATA names no folder with the released files")

EXAMPLES = "anthropic_cai/prompts/RLMadisonPrecogFewShotPrompts.json"
# fewer rows than the experiment's own, so that the test stays short
SMALL = [
    "stages.revisions.rounds=1",
    "stages.ppo.iterations=1",
    "stages.ppo.snapshots=[]",
    "stages.ratings.resamples=50",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run facts, store, summary and page of one run on the files."""
    assert DATA is not None
    folder = tmp_path_factory.mktemp("hh")
    text = Path(DATA) / "hh-rlhf" / "harmless-base.train.jsonl.gz"
    model = folder / "tiny"
    tiny = [sys.executable, "-m", "cai_lightning.data.tiny_model", "--text", str(text), "--out", str(model)]
    subprocess.run(tiny, check=True, capture_output=True)
    files = [f"model.path={model}", f"data.root={DATA}", f"runtime.outputs={folder / 'outputs'}"]
    command = [
        sys.executable,
        "-m",
        "cai_lightning",
        "run",
        "experiment=hh_files",
        "runtime.progress=off",
        *files,
        *SMALL,
    ]
    done = subprocess.run(
        [*command, "runtime.wandb.mode=disabled"], check=False, capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr[-3000:]
    latest = folder / "outputs" / "latest"
    return (
        json.loads((latest / "run.json").read_text()),
        folder / "outputs" / "store",
        json.loads((latest / "summary.json").read_text()),
        (latest / "report.html").read_text(),
    )


def rows(run: Any, slot: str, record: Any) -> Any:
    facts, store, *_ = run
    return read_rows(store / facts["keys"][slot], record)


def test_prompts_are_the_common_beginning_of_the_pairs(run: Any) -> None:
    assert DATA is not None
    with gzip.open(Path(DATA) / "hh-rlhf" / "harmless-base.train.jsonl.gz", "rt", encoding="utf-8") as file:
        first = json.loads(file.readline())
    revision = rows(run, "revisions", Revision)[0]
    prompt = to_text(revision.prompt.dialogue) + "\n\nAssistant:"
    assert first["chosen"].startswith(prompt)
    assert first["rejected"].startswith(prompt)
    pairs = zip(first["chosen"], first["rejected"], strict=False)
    shared = "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    assert "\n\nAssistant:" not in shared[len(prompt) :]
    assert len(prompt) <= len(shared)


def test_every_response_has_its_round_of_critique_and_revision_under_the_papers_principles(run: Any) -> None:
    found = rows(run, "revisions", Revision)
    assert len(found) == 24
    assert {row.round for row in found} == {1}
    assert {row.principle for row in found} <= {f"harmful{i}" for i in range(16)}
    assert all(row.critique is not None and row.prompt_tokens > 1000 for row in found)  # five few-shots stand first


def test_labels_are_letter_log_odds_in_both_orders(run: Any) -> None:
    found = rows(run, "labels", Label)
    pairs = rows(run, "pairs", Comparison)
    assert [row.id for row in found] == [row.id for row in pairs]
    for row in found:
        assert row.p_a == pytest.approx(1 / (1 + math.exp(-(row.logit_ab + row.logit_ba) / 2)), abs=1e-12)
        assert row.principle in {f"comparison{i}" for i in range(16)}


def test_human_comparisons_are_chosen_first_and_certain(run: Any) -> None:
    found = rows(run, "human_labels", Label)
    assert len(found) == 48
    assert all(row.p_a == 1.0 and row.a.strip() and row.b.strip() for row in found)


def test_both_evaluation_files_are_scored_over_all_their_rows(run: Any) -> None:
    summary = run[2]
    # lines of the shared subsets, counted with wc -l
    assert summary["evals"]["438HHHEvaluations"]["n"] == 233
    assert summary["evals"]["HarmfulVsEthical"]["n"] == 138
    for entry in summary["evals"].values():
        assert 0 <= entry["low"] <= entry["accuracy"] <= entry["high"] <= 1
    nine = summary["tables"]["multiple_choice"]["HarmfulnessClassification"]
    assert nine["clusters"] == 32 and sum(one["n"] for one in nine["classes"].values()) == nine["n"]


def test_questions_after_thoughts_follow_six_examples_and_ask_none_of_their_conversations(run: Any) -> None:
    assert DATA is not None
    table = run[2]["tables"]["multiple_choice_thoughts"]["438HHHEvaluations"]
    assert table["shots"] == len(json.loads((Path(DATA) / EXAMPLES).read_text())) == 6
    assert 0 < table["clusters"] <= 6 <= table["n"] + table["dropped"]


def test_reward_model_stands_beside_its_baselines_on_the_same_prompts(run: Any) -> None:
    tables = run[2]["tables"]
    learned, simple = tables["reward_model"]["accuracy_harmless"], tables["baseline"]
    words, shorter = (simple[name]["accuracy_harmless"] for name in ("bag_of_words", "shorter"))
    assert learned["n"] == words["n"] == shorter["n"] == tables["reward_model"]["difference_harmless"]["n"]
    assert learned["value"] == run[2]["reward_model"]["accuracy_harmless"]
    change = tables["reward_model"]["difference_harmless"]["value"]
    assert change == pytest.approx(learned["value"] - words["value"], abs=1e-9)


def test_our_replies_are_described_like_the_released_ones(run: Any) -> None:
    assert DATA is not None
    surface, plain = run[2]["tables"]["surface"], run[2]["tables"]["plain_text"]
    files = {path.stem for path in (Path(DATA) / "anthropic_cai" / "samples").glob("*.jsonl")}
    assert set(surface["samples"]) | set(surface["traces"]) == files
    assert set(surface["answers"]) >= {"helpful_only", "sl_cai", "dpo", "ppo"}
    assert {figures["n"] for figures in surface["answers"].values()} == {24}
    assert surface["revisions"]["ours"]["n"] == 24 and len(surface["revisions"]["ours"]["similarity"]) == 1
    assert set(plain) == {"helpful_only", "sl_cai", "dpo", "ppo"}
    assert [name for name, one in plain.items() if one["difference"] is None] == ["helpful_only"]
    assert {one["documents"] for one in plain.values()} == {24}


def test_the_page_shows_all_tables(run: Any) -> None:
    page = run[3]
    for shown in ("On public files", "LAMDA_RLMADISON_COT", "Bag of words", "Bits per byte", "HarmfulVsEthical"):
        assert shown in page
    assert page.count("<h2>Multiple choice</h2>") == 0  # not once more below


def test_what_is_unavailable_is_null(run: Any) -> None:
    summary = run[2]
    assert summary["feedback"]["accuracy"] is None
    assert summary["reward_model"]["accuracy_helpful"] is None
    assert summary["reward_model"]["accuracy_harmless"] is not None
    assert summary["players"]["ppo"]["harmful_rate"]["value"] is None


def test_training_rows_are_counted_and_none_lost_in_silence(run: Any) -> None:
    facts, store, *_ = run
    counts = json.loads((store / facts["keys"]["sft"] / "counts.json").read_text())
    assert counts["revisions"] == 24
    assert counts["kept"] + counts["too_long"] + counts["empty"] == 48
