"""Own files and two models of one's own: a chat model answers, revises and labels, a base model is finetuned."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from cai_lightning.text.records import Answer, Label, Prompt, Response, Revision, read_rows

WORDS = ["bread", "lamp", "garden", "friend", "make", "fix", "find", "this", "old", "how", "can", "you", "help", "me"]
SMALL = [
    "data.reply_tokens=16",
    "data.critique_tokens=16",
    "stages.revisions.rounds=1",
    "stages.ppo.iterations=1",
    "stages.ppo.rollouts=8",
    "stages.ppo.minibatch=8",
    "stages.ppo.fit.accumulate=2",
    "stages.ppo.snapshots=[]",
    "stages.ratings.resamples=50",
]


def python(folder: Path, *command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choices(WORDS, k=count))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("own"), random.Random(0)
    asked = [[words(rng, 8) for _ in range(30)] for _ in range(3)]
    files: dict[str, list[Any]] = {
        "red_team": [{"prompt": text} for text in asked[0]],
        "helpful": [{"prompt": [{"role": "user", "content": text}]} for text in asked[1]],
        "preference": [{"prompt": t, "chosen": words(rng, 9), "rejected": words(rng, 6)} for t in asked[2]],
    }
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = str(folder / "preference.jsonl")
    tiny = ["cai_lightning.data.tiny_model", "--text", text, "--vocabulary", "300"]
    python(folder, *tiny, "--out", "base", "--kind", "llama")
    python(folder, *tiny, "--out", "chat", "--kind", "mistral", "--chat", "--seed", "1")
    python(
        folder,
        "cai_lightning",
        "run",
        "experiment=hh_hub",
        "data=own_files",
        "mixture=hh_files",
        *(f"data.{name}_file={folder / name}.jsonl" for name in files),
        "stage/base@stages.base=imported",
        f"model.path={folder / 'base'}",
        "stage/base@stages.assistant=imported",
        "~stages.assistant.hub_id",
        "~stages.assistant.revision",
        f"stages.assistant.path={folder / 'chat'}",
        *SMALL,
        f"runtime.outputs={folder / 'outputs'}",
        "runtime.progress=off",
        "runtime.wandb.mode=disabled",
    )
    return folder / "outputs"


def keys(outputs: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((outputs / "latest" / "run.json").read_text())["keys"]
    return found


def rows(outputs: Path, slot: str, record: Any) -> Any:
    return read_rows(outputs / "store" / keys(outputs)[slot], record)


def key(outputs: Path, slot: str) -> str:
    return keys(outputs)[slot].split("/")[1]


@pytest.mark.slow
def test_each_model_plays_its_part(outputs: Path) -> None:
    assistant, policy = key(outputs, "assistant"), key(outputs, "sft")
    assert assistant != key(outputs, "base")
    parts: dict[str, tuple[Any, str]] = {
        "red_team_responses": (Response, assistant),
        "helpful_responses": (Response, assistant),
        "revisions": (Revision, assistant),
        "labels": (Label, assistant),
        "answers_helpful_only": (Answer, assistant),
        "answers_sl_cai": (Answer, policy),
    }
    for slot, (record, model) in parts.items():
        assert {row.model for row in rows(outputs, slot, record)} == {model}, slot


@pytest.mark.slow
def test_each_model_reads_prompts_in_its_own_format(outputs: Path) -> None:
    samples = (outputs / "store" / keys(outputs)["ppo"] / "samples.jsonl").read_text().splitlines()
    for row in map(json.loads, samples):
        assert row["text"].startswith("\n\nHuman: ") and row["text"].endswith("\n\nAssistant:")
    chat = PreTrainedTokenizerFast.from_pretrained(outputs / "store" / keys(outputs)["assistant"])
    for row in rows(outputs, "red_team_responses", Response):
        (turn,) = row.prompt.dialogue
        text = f"<|im_start|>user\n{turn.content}<|im_end|>\n<|im_start|>assistant\n"
        assert row.prompt_tokens == len(chat(text, add_special_tokens=False).input_ids)


@pytest.mark.slow
def test_parts_of_a_file_share_no_prompt(outputs: Path) -> None:
    slots = ("red_team_prompts", "pair_prompts", "rl_prompts", "eval_prompts")
    ids = [{row.id for row in rows(outputs, slot, Prompt)} for slot in slots]
    assert all(ids) and len(set.union(*ids)) == sum(map(len, ids))
