"""PPO on prompts that are longer than the policy reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from cai_lightning import microworld
from cai_lightning.experiment.compose import compose_config
from cai_lightning.experiment.targets import construct
from cai_lightning.models.adapters import full
from cai_lightning.models.causal import load_tokenizer, save_causal
from cai_lightning.models.reward import reward_from_causal, save_reward
from cai_lightning.stages import ppo
from cai_lightning.text.dialogue import Dialogue, Message, human
from cai_lightning.text.records import Prompt, write_rows

WORDS = Path(microworld.__file__).parent / "weights" / "small"
POSITIONS = 64
LONG: Dialogue = (Message("human", " ".join(["sure"] * 70)), Message("assistant", "no"), *human("get the rope"))
ENDLESS = human(" ".join(["sure"] * 70))
CHANGES = {
    "iterations": 1,
    "rollouts": 4,
    "minibatch": 2,
    "ppo_epochs": 1,
    "max_new_tokens": 16,
    "snapshots": [],
    "sample_rows": 4,
    "forward_rows": 2,
}


@pytest.fixture(params=["gpt2", "llama"])
def policy(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    tokenizer = load_tokenizer(WORDS)
    ids: dict[str, Any] = dict(vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=1, bos_token_id=None)
    torch.manual_seed(0)
    if request.param == "gpt2":
        model: Any = GPT2LMHeadModel(GPT2Config(**ids, n_embd=16, n_layer=1, n_head=2, n_positions=POSITIONS))
    else:
        sizes = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
        model = LlamaForCausalLM(LlamaConfig(**ids, **sizes, max_position_embeddings=POSITIONS))
    save_causal(model, tokenizer, tmp_path / "policy", dtype="float32")
    return tmp_path / "policy"


def learn(out: Path, policy: Path, dialogues: list[Dialogue], *, several: bool = False) -> Any:
    """What PPO counts; `several`: with the reward model three times, as first, as member and as held-out one."""
    reward, tokenizer = reward_from_causal(
        policy, adapter=full, marker=None, mean=False, gain=1.0, dtype="float32", head_std=0.5, seed=0
    )
    judge, prompts = out / "judge", out / "prompts"
    for folder in (judge, prompts, out / "ppo"):
        folder.mkdir(parents=True)
    save_reward(reward, tokenizer, judge, parent=policy, dtype="float32")
    rows = [
        Prompt(id=str(number), dialogue=dialogue, source="s", kind="red_team", cluster="c")
        for number, dialogue in enumerate(dialogues)
    ]
    write_rows(prompts, rows)
    config = compose_config(["+stage/ppo@stages.tested=default", "runtime.outputs=nowhere", "replicate=0"])
    inputs = {"policy": str(policy), "reward_model": str(judge), "prompts": str(prompts)}
    for key, value in (CHANGES | inputs).items():
        config.stages.tested[key] = value
    nodes = OmegaConf.to_container(config.stages.tested, resolve=True)
    assert isinstance(nodes, dict)
    given = construct({key: value for key, value in nodes.items() if key not in ("_target_", "version", *inputs)})
    further = {"ensemble": {"x": judge}, "heldout": judge} if several else {}
    ppo.run(out / "ppo", **given | further, policy=policy, reward_model=judge, prompts=prompts)
    return json.loads((out / "ppo" / "counts.json").read_text())


def test_prompts_that_do_not_fit_are_shortened_or_left_out_and_counted(policy: Path, tmp_path: Path) -> None:
    """Before, GPT-2 failed on the index of a position and Llama read on past its last one."""
    found = learn(tmp_path / "out", policy, [LONG, human("get the rope"), ENDLESS])
    scored = found["scored_prompt_cut"]
    assert found == {"prompts": 3, "prompt_cut": 1, "too_long": 1, "scored_prompt_cut": scored, "iterations": 1}
    # each of the two prompts that are left is drawn twice, and the judge meets the long one whole
    assert found["scored_prompt_cut"] == 2


def test_prompts_that_reward_models_cut_are_counted_over_all_of_them(policy: Path, tmp_path: Path) -> None:
    found = learn(tmp_path / "out", policy, [LONG, human("get the rope")], several=True)
    assert found["scored_prompt_cut"] == 3 * 2


def test_no_prompt_that_fits_is_an_error(policy: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"prompts: of 1 none has a last turn of at most the 48 tokens"):
        learn(tmp_path / "out", policy, [ENDLESS])
