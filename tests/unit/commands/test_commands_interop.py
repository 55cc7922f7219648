"""TRL and lm_eval on what we export, in an environment of their own: CAI_TRL_PYTHON names its python (make interop)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from commands_store import ASKED, LABEL, REPLIES

from cai_lightning.commands import data, export
from cai_lightning.commands.data_inspect import Reader, learned
from cai_lightning.commands.players import player
from cai_lightning.commands.source_rows import source_rows
from cai_lightning.experiment.workspace import Workspace
from cai_lightning.models.causal import load_causal
from cai_lightning.models.engine import CausalBackend
from cai_lightning.text.backends import Query
from cai_lightning.text.dialogue import human

PYTHON = os.environ.get("CAI_TRL_PYTHON")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="CAI_TRL_PYTHON names no python with trl and lm_eval"),
]
HEAD = """
import json, sys, torch, trl
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
torch.set_num_threads(1)
model, rows, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(model)
rows = load_dataset("json", data_files=rows, split="train", cache_dir=out + "/cache")
common = dict(output_dir=out, max_steps=2, per_device_train_batch_size=3, report_to=[], save_strategy="no",
    use_cpu=True, bf16=False, disable_tqdm=True, logging_steps=1)
def kept(rows, masks):
    return [[int(id) for id, keep in zip(ids, mask) if keep] for ids, mask in zip(rows, masks)]
def report(trainer, mask):
    batch = next(iter(trainer.get_train_dataloader()))
    ids = batch["input_ids"]
    found = dict(read=kept(ids, batch["attention_mask"]), taught=kept(ids, mask(batch)))
    trainer.train()
    print("RESULT", json.dumps(dict(found, log=trainer.state.log_history)))
"""
DPO = """
trainer = trl.DPOTrainer(AutoModelForCausalLM.from_pretrained(model), args=trl.DPOConfig(**common),
    train_dataset=rows, processing_class=tokenizer)
report(trainer, lambda batch: batch["completion_mask"])
"""
SFT = """
args = trl.SFTConfig(**common, assistant_only_loss=True)
trainer = trl.SFTTrainer(AutoModelForCausalLM.from_pretrained(model), args=args,
    train_dataset=rows, processing_class=tokenizer)
report(trainer, lambda batch: batch["labels"] != -100)
"""
REWARD = """
trainer = trl.RewardTrainer(AutoModelForSequenceClassification.from_pretrained(model), args=trl.RewardConfig(**common),
    train_dataset=rows, processing_class=tokenizer)
report(trainer, lambda batch: batch["attention_mask"])
"""
TASK = """
task: cai_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


def python(arguments: list[str]) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(PYTHON), *arguments], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def trained(script: str, key: str, source: str, workspace: Workspace, tmp_path: Path) -> dict[str, list]:
    """What a TRL trainer read and learned of our rows with our model, and its log of two steps."""
    export.main([key, str(tmp_path / "model")], workspace)
    data.main(["export", source, str(tmp_path / "data"), "--format", "trl"], workspace)
    rows = next((tmp_path / "data").glob("*.jsonl"))
    out = python(["-c", HEAD + script, str(tmp_path / "model"), str(rows), str(tmp_path / "out")])
    return json.loads(next(line for line in out.splitlines() if line.startswith("RESULT ")).removeprefix("RESULT "))


def ours(key: str, source: str, workspace: Workspace) -> tuple[list[list[int]], list[list[int]]]:
    """Ids, and those of them that are learned, of the rows as our stages make them; sorted."""
    reader = Reader(player(workspace, key))
    rows, _ = learned(source_rows(workspace, source).rows, reader, 512)
    return sorted(ids for ids, _ in rows), sorted([id for id, w in zip(*row, strict=True) if w] for row in rows)


def test_trl_s_dpo_reads_and_learns_the_tokens_that_ours_does(workspace: Workspace, tmp_path: Path) -> None:
    theirs = trained(DPO, "sft", "labels", workspace, tmp_path)
    assert (sorted(theirs["read"]), sorted(theirs["taught"])) == ours("sft", "labels", workspace)
    assert theirs["log"][0]["loss"] == pytest.approx(0.693147, abs=1e-5)


def test_trl_s_sft_learns_the_tokens_that_ours_does(workspace: Workspace, tmp_path: Path) -> None:
    theirs = trained(SFT, "sft", "revisions", workspace, tmp_path)
    data.main(["export", "revisions", str(tmp_path / "again"), "--format", "trl"], workspace)
    assert (sorted(theirs["read"]), sorted(theirs["taught"])) == ours(
        "sft", str(tmp_path / "again" / "train.jsonl"), workspace
    )


def test_trl_s_reward_trainer_takes_the_reward_export(workspace: Workspace, tmp_path: Path) -> None:
    theirs = trained(REWARD, "reward_model", "labels", workspace, tmp_path)
    assert sorted(theirs["read"]) == ours("reward_model", "labels", workspace)[0]
    # the margin of the first step, before any update, is that of our scores
    from cai_lightning.models.reward import load_reward

    reward, tokenizer = load_reward(player(workspace, "reward_model").folder, dtype="float32")
    labels = source_rows(workspace, LABEL).rows
    pairs = [(row.b, row.a) if row.p_a < 0.5 else (row.a, row.b) for row in labels]
    chosen, rejected = (
        reward.score_replies(tokenizer, [row.prompt.dialogue for row in labels], [pair[side] for pair in pairs], 1)
        for side in (0, 1)
    )
    margin = sum(one - other for one, other in zip(chosen, rejected, strict=True)) / len(labels)
    assert theirs["log"][0]["margin"] == pytest.approx(margin, abs=2e-3)  # TRL rounds what it logs


def test_lm_eval_scores_replies_as_we_do(workspace: Workspace, tmp_path: Path) -> None:
    export.main(["sft", str(tmp_path / "model")], workspace)
    # with a chat template lm_eval puts nothing before a choice, so the choice brings the space that replies begin with
    docs = [{"question": words, "choices": [" " + reply for reply in REPLIES], "answer": 0} for words in ASKED]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    (tmp_path / "task.yaml").write_text(TASK.format(rows=tmp_path / "rows.jsonl"))
    given = f"--model hf --model_args pretrained={tmp_path / 'model'},dtype=float32 --tasks cai_choice --device cpu"
    more = f"--include_path {tmp_path} --apply_chat_template --log_samples --output_path {tmp_path / 'out'}"
    python(["-m", "lm_eval", *given.split(), *more.split()])
    lines = next((tmp_path / "out").rglob("samples_*.jsonl")).read_text().splitlines()
    found = sorted((json.loads(line) for line in lines), key=lambda row: row["doc_id"])
    theirs = [float(answer[0][0]) for row in found for answer in row["resps"]]
    backend = CausalBackend(*load_causal(player(workspace, "sft").folder, dtype="float32"), batch_size=4)
    queries = [Query(human(words), tuple(" " + reply for reply in REPLIES)) for words in ASKED]
    assert theirs == pytest.approx([value for row in backend.score(queries) for value in row], abs=1e-4)
