"""A store as a run leaves it, of the micro-world's base model and a few handwritten rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands_store import (
    ASKED,
    BASE,
    CONSTITUTION,
    LABEL,
    MEAN,
    PPO,
    PROMPTS,
    REPLIES,
    REVISE,
    REWARD,
    SFT,
    TABLE,
    WEIGHTS,
    byte_tokenizer,
    make_label,
    make_prompt,
    make_revision,
)
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from cai_lightning.experiment.workspace import Workspace
from cai_lightning.models.causal import load_causal, save_causal
from cai_lightning.models.reward import RewardModel, save_reward
from cai_lightning.text.records import write_rows


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("outputs")
    keys = {"base": BASE, "revisions": REVISE, "sft": SFT, "ppo": PPO, "reward_model": REWARD, "labels": LABEL}

    def folder(name: str) -> Path:
        path = root / "store" / name
        path.mkdir(parents=True)
        return path

    def manifest(name: str, recipe: dict[str, Any], **upstream: str) -> None:
        stage, _, key = name.partition("/")
        target = f"cai_lightning.stages.{stage}.run"
        fields = {"stage": stage, "key": key, "recipe": {"_target_": target, "version": 1, "seed": 3, **recipe}}
        fields |= {"upstream": upstream, "files": {}, "packages": {"torch": "0.0"}, "python": "3", "machine": "any"}
        (root / "store" / name / "manifest.json").write_text(json.dumps(fields))

    shutil.copytree(WEIGHTS, folder(BASE), dirs_exist_ok=True)
    manifest(BASE, {"path": {"source": "0" * 64}})
    write_rows(folder(PROMPTS), map(make_prompt, ASKED))
    manifest(PROMPTS, {"readers": [{"_target_": "a.reader", "split": "final"}]})
    rounds = [make_revision(ASKED[0], 1, REPLIES[0], "sure . first ."), make_revision(ASKED[1], 1, *REPLIES)]
    write_rows(folder(REVISE), [*rounds, make_revision(ASKED[0], 2, "sure . first .", REPLIES[1])])
    numbers = {"rounds": 2, "critique": True, "replacement": True, "temperature": 0.7}
    numbers |= {"critique_tokens": 16, "revision_tokens": 16, "constitution": CONSTITUTION}
    manifest(REVISE, {**numbers, "reviser": {"stage": "1" * 16}}, base=BASE)

    model, tokenizer = load_causal(WEIGHTS, dtype="float32")
    for name, above in ((SFT, {"base": BASE, "revisions": REVISE}), (PPO, {"sft": SFT, "reward_model": REWARD})):
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(1.05)
        save_causal(model, tokenizer, folder(name), dtype="float32")
        manifest(name, {"policy": {"stage": next(iter(above.values())).partition("/")[2]}}, **above)
        (root / "store" / name / "metrics.jsonl").write_text('{"loss": 2.0, "step": 0}\n{"loss": 0.5, "step": 9}\n')
    shutil.copytree(root / "store" / SFT, root / "store" / PPO / "snapshots" / "00000016")
    for name, mean in ((REWARD, False), (MEAN, True)):
        head = LlamaForSequenceClassification.from_pretrained(WEIGHTS, num_labels=1, dtype=torch.float32).eval()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            torch.nn.init.normal_(head.score.weight, std=0.3)
        head.config.pad_token_id = 0
        reward = RewardModel(head, marker=None, mean=mean, gain=1.0)
        save_reward(reward, tokenizer, folder(name), parent=WEIGHTS, dtype="float32")
        manifest(name, {"policy": {"stage": "1" * 16}, "labels": {"ai": {"stage": "7" * 16}}}, base=BASE, labels=LABEL)
    write_rows(folder(LABEL), [make_label(words, p) for words, p in zip(ASKED, (0.2, 0.9, 0.5), strict=True)])
    (root / "store" / LABEL / "counts.json").write_text('{"dropped": {"duplicate": 4}}')
    manifest(LABEL, {"comparisons": {"stage": "9" * 16}, "constitution": CONSTITUTION}, prompts=PROMPTS)
    table = {"accuracy": {"value": 0.75, "low": 0.5, "high": 1.0, "n": 8}}
    (folder(TABLE) / "reward_model.json").write_text(json.dumps(table))
    manifest(TABLE, {"reward_model": {"stage": "5" * 16}}, reward_model=REWARD)
    (root / "latest").mkdir()
    (root / "latest" / "run.json").write_text(json.dumps({"keys": keys}))
    return root


@pytest.fixture(scope="session")
def workspace(outputs: Path) -> Workspace:
    return Workspace((f"runtime.outputs={outputs}",))


@pytest.fixture
def make_bytes(tmp_path: Path) -> Callable[..., Path]:
    """A folder with a random tiny Llama over bytes."""

    def make(*, bos: bool, pad: bool) -> Path:
        tokenizer = byte_tokenizer(bos=bos, pad=pad)
        small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        ends = {"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 2 if pad else 0}
        with torch.random.fork_rng():
            torch.manual_seed(2)
            config = LlamaConfig(vocab_size=259, max_position_embeddings=512, initializer_range=0.2, **small, **ends)
            model = LlamaForCausalLM(config).eval()
        folder = tmp_path / f"bytes-{bos}-{pad}"
        save_causal(model, tokenizer, folder, dtype="float32")
        return folder

    return make
