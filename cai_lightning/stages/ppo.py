"""Reinforcement learning from AI feedback: PPO against the reward model, from the SL-CAI policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import CausalLM, PromptRows, RewardModel
from cai_lightning.text.records import Prompt, read_rows

SAMPLES = "samples.jsonl"


def run(
    out: Path,
    *,
    policy: CausalLM,
    reward_model: RewardModel,
    prompts: PromptRows,
    iterations: int,
    rollouts: int,
    minibatch: int,
    ppo_epochs: int,
    temperature: float,
    max_new_tokens: int,
    missing_eos_penalty: float,
    transform: Callable[..., Any],
    scaling: Callable[..., Any],
    kl: Any,
    gamma: float,
    lam: float,
    clip_range: float,
    value_clip: float,
    vf_coef: float,
    optimizer: Callable[..., Any],
    schedule: Callable[..., Any],
    fit: Callable[..., Any],
    snapshots: list[int],
    sample_rows: int,
    forward_rows: int,
    multiple: int,
    logged_samples: int,
    precision: str,
    dtype: str,
    seed: int,
) -> CausalLM:
    """A causal-LM folder, `snapshots/<RL samples seen>/` folders, `metrics.jsonl`, and `samples.jsonl` of rollouts.

    Source: Bai et al. 2022 (section 4.1) with the PPO of 2204.05862; per-token KL, GAE and clipped losses as in
    Ziegler et al. 2019. `iterations` x `rollouts` samples are seen in all.
    """
    import torch

    from cai_lightning.learning.ppo import PPOModule
    from cai_lightning.learning.rollouts import Collector, RolloutLoader, RolloutPrompt
    from cai_lightning.learning.snapshots import Snapshots
    from cai_lightning.models.causal import load_causal, save_causal
    from cai_lightning.models.format import Format
    from cai_lightning.models.logprobs import response_logprobs
    from cai_lightning.models.reward import load_reward
    from cai_lightning.stages.session import autocast, device
    from cai_lightning.stages.training import train

    model, tokenizer = load_causal(policy, dtype="float32")
    frozen = load_causal(policy, dtype="float32")[0].requires_grad_(False).to(device())
    judge, judge_tokenizer = load_reward(reward_model, dtype="float32")
    judge.requires_grad_(False).to(device())
    rows = read_rows(prompts, Prompt)
    format = Format(tokenizer)
    ids = format.prompt_ids([row.dialogue for row in rows])

    def reference(input_ids: Any, mask: Any) -> Any:
        return response_logprobs(frozen, input_ids, mask, temperature=temperature)

    def score(dialogues: list[Any], replies: list[str]) -> list[float]:
        with torch.inference_mode(), autocast(precision):
            return judge.score_replies(judge_tokenizer, dialogues, replies, batch_size=forward_rows)

    samples = (out / SAMPLES).open("w", encoding="utf-8")

    def observe(iteration: int, drawn: list[Any], replies: list[str], scores: list[float]) -> None:
        for prompt, reply, value in list(zip(drawn, replies, scores, strict=True))[:logged_samples]:
            text = format.text(prompt.dialogue)
            row = {"iteration": iteration, "prompt": prompt.id, "text": text, "reply": reply, "score": value}
            samples.write(json.dumps(row, ensure_ascii=False) + "\n")

    module = PPOModule(
        model,
        temperature=temperature,
        clip_range=clip_range,
        value_clip=value_clip,
        vf_coef=vf_coef,
        optimizer=optimizer,
        schedule=schedule,
    )
    collector = Collector(
        module=module,
        reference=reference,
        prompts=[RolloutPrompt(row.id, row.dialogue, found) for row, found in zip(rows, ids, strict=True)],
        tokenizer=tokenizer,
        score=score,
        transform=transform,
        scaling=scaling,
        kl=kl,
        observe=observe,
        rollouts=rollouts,
        sample_rows=sample_rows,
        forward_rows=forward_rows,
        multiple=multiple,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        missing_eos_penalty=missing_eos_penalty,
        gamma=gamma,
        lam=lam,
        seed=seed,
    )
    loader = RolloutLoader(
        module, collector, rollouts=rollouts, minibatch=minibatch, ppo_epochs=ppo_epochs, multiple=multiple, seed=seed
    )

    def save(iteration: int, snapshot: Any) -> None:
        save_causal(snapshot, tokenizer, out / "snapshots" / f"{iteration * rollouts:08d}", dtype=dtype)

    callbacks = [Snapshots(snapshots, save)]
    with samples:
        train(out, module, loader, fit, batches=len(loader) * iterations, seed=seed, callbacks=callbacks)
    save_causal(model, tokenizer, out, dtype=dtype)
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Each rollout is sampled, scored by reference and reward model, and learned once a PPO epoch."""
    calls = recipe["iterations"] * recipe["rollouts"] * (3 + recipe["ppo_epochs"])
    tokens = calls * (recipe["prompts"].length + recipe["max_new_tokens"])
    return Estimate(None, calls, tokens, players=1 + len(recipe["snapshots"]))
