"""Reinforcement learning from AI feedback: PPO against the reward model, from the SL-CAI policy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cai_lightning.stages import memory
from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import CausalLM, PromptRows, RewardModel
from cai_lightning.text.records import Prompt, read_rows

if TYPE_CHECKING:
    from cai_lightning.learning.rollouts import RolloutPrompt
    from cai_lightning.models.format import Format

SAMPLES, ALARMS = "samples.jsonl", "alarms.jsonl"


def run(
    out: Path,
    *,
    policy: CausalLM,
    reward_model: RewardModel,
    ensemble: dict[str, RewardModel],
    combine: Callable[..., Any],
    heldout: RewardModel | None,
    prompts: PromptRows,
    iterations: int,
    rollouts: int,
    samples: int,
    minibatch: int,
    ppo_epochs: int,
    temperature: float,
    max_new_tokens: int,
    missing_eos_penalty: float,
    transform: Callable[..., Any],
    scaling: Callable[..., Any],
    kl: Any,
    adapter: Callable[..., None],
    base_dtype: str,
    estimator: Callable[..., Any],
    weigh: Callable[..., Any],
    clip_range: float,
    value_clip: float,
    vf_coef: float,
    kl_loss_coef: float,
    entropy_coef: float,
    optimizer: Callable[..., Any],
    schedule: Callable[..., Any],
    fit: Callable[..., Any],
    stop: Callable[..., Any],
    snapshots: list[int],
    alarms: Any,
    sample_rows: int,
    forward_rows: int,
    route: Literal["packed", "padded"],
    logged_samples: int,
    precision: str,
    dtype: str,
    seed: int,
) -> CausalLM:
    """A causal-LM folder, `snapshots/<RL samples seen>/` folders, `metrics.jsonl`, `samples.jsonl` of rollouts, and
    `alarms.jsonl` where something looked wrong.

    Source: Bai et al. 2022 (section 4.1) with the PPO of 2204.05862; per-token KL, GAE and clipped losses as in
    Ziegler et al. 2019. `iterations` x `rollouts` samples are seen in all. `adapter` says what of the policy learns
    beside its value head, `base_dtype` is the number format of what does not. A prompt that leaves the policy no room
    for `max_new_tokens` loses its first turns, and one whose last turn leaves none is left out; `counts.json` says how
    many, and how often the reward models, all together, met a prompt that they had to cut. `ensemble` are further
    reward models by name, whose scores `combine` makes one with those of the `first`. `estimator` makes PPO, RLOO or
    GRPO of it. Scores of `heldout` are logged and may `stop` a run. Raises ValueError where no prompt is left.
    """
    from cai_lightning.learning.alarms import Alarms
    from cai_lightning.learning.ppo import PPOModule
    from cai_lightning.learning.rollout_loader import RolloutLoader
    from cai_lightning.learning.rollouts import Collector
    from cai_lightning.learning.snapshots import Snapshots
    from cai_lightning.models.adapters import only
    from cai_lightning.models.attention import drops
    from cai_lightning.models.causal import save_trained
    from cai_lightning.models.engine import positions
    from cai_lightning.models.format import Format
    from cai_lightning.models.logprobs import token_logprobs
    from cai_lightning.models.packing import places
    from cai_lightning.models.reward_ensemble import load_ensemble
    from cai_lightning.stages.reading import write_counts
    from cai_lightning.stages.roles import load_judge, load_roles, member_scorer, scorer
    from cai_lightning.stages.session import device, prepare
    from cai_lightning.stages.training import train

    prepare()
    roles = load_roles(policy, reward_model, adapter=adapter, base_dtype=base_dtype, seed=seed)
    model, tokenizer = roles.policy, roles.tokenizer
    format = Format(tokenizer)
    asked, counts = _asked(format, read_rows(prompts, Prompt), positions(model) - max_new_tokens)

    def reference(packed: Any) -> Any:
        with only(roles.reference, roles.reference_adapters):
            targets = places(packed).to(packed.ids.device)
            return token_logprobs(roles.reference, packed, targets, temperature=temperature)

    reading: dict[str, Any] = {"precision": precision, "rows": forward_rows}
    others = load_ensemble(ensemble, combine=combine, dtype=base_dtype).to(device()) if ensemble else None
    looked_at = None if heldout is None else load_judge(heldout, dtype=base_dtype)

    def observe(iteration: int, drawn: list[Any], replies: list[str], scores: list[float]) -> None:
        with (out / SAMPLES).open("a", encoding="utf-8") as file:
            for prompt, reply, value in list(zip(drawn, replies, scores, strict=True))[:logged_samples]:
                text = format.text(prompt.dialogue)
                row = {"iteration": iteration, "prompt": prompt.id, "text": text, "reply": reply, "score": value}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    module = PPOModule(
        model,
        temperature=temperature,
        clip_range=clip_range,
        value_clip=value_clip,
        vf_coef=vf_coef,
        kl_loss_coef=kl_loss_coef,
        entropy_coef=entropy_coef,
        weigh=weigh,
        optimizer=optimizer,
        schedule=schedule,
    )
    collector = Collector(
        module=module,
        reference=reference,
        prompts=asked,
        tokenizer=tokenizer,
        score=scorer(roles.judge, roles.judge_tokenizer, roles.judge_adapters, **reading),
        others=None if others is None else member_scorer(others, **reading),
        combine=combine,
        heldout=None if looked_at is None else scorer(*looked_at, **reading),
        transform=transform,
        scaling=scaling,
        estimator=estimator,
        kl=kl,
        observe=observe,
        rollouts=rollouts,
        samples=samples,
        sample_rows=sample_rows,
        forward_rows=forward_rows,
        once=ppo_epochs == 1 and rollouts == minibatch and not drops(model),
        route=route,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        missing_eos_penalty=missing_eos_penalty,
        seed=seed,
    )
    loader = RolloutLoader(
        module,
        collector,
        rollouts=rollouts,
        samples=samples,
        minibatch=minibatch,
        ppo_epochs=ppo_epochs,
        route=route,
        seed=seed,
    )

    def save(iteration: int, snapshot: Any) -> None:
        folder = out / "snapshots" / f"{iteration * rollouts:08d}"
        save_trained(snapshot, tokenizer, folder, parent=policy, dtype=dtype)

    watching = [Snapshots(snapshots, save), Alarms(collector.history, alarms, out / ALARMS), stop(collector.history)]
    train(
        out,
        module,
        loader,
        fit,
        batches=len(loader) * iterations,
        seed=seed,
        callbacks=[each for each in watching if each is not None],
        kept={"collector": collector},
        journals=[out / SAMPLES, out / ALARMS],
    )
    cut = roles.judge.cut + (0 if others is None else others.cut) + (0 if looked_at is None else looked_at[0].cut)
    write_counts(out, {**counts, "iterations": len(collector.history), "scored_prompt_cut": cut})
    save_trained(model, tokenizer, out, parent=policy, dtype=dtype)
    return out


def _asked(format: Format, rows: Sequence[Prompt], room: int) -> tuple[list[RolloutPrompt], dict[str, int]]:
    """The prompts in at most `room` tokens, and how many were cut or left out for that."""
    from cai_lightning.learning.rollouts import RolloutPrompt

    asked: list[RolloutPrompt] = []
    counts = Counter(prompts=len(rows), prompt_cut=0, too_long=0)
    for row, ids in zip(rows, format.prompt_ids([row.dialogue for row in rows]), strict=True):
        if (found := format.fitted(row.dialogue, room, inside=False, ids=ids)) is None:
            counts["too_long"] += 1
            continue
        counts["prompt_cut"] += found[1]
        asked.append(RolloutPrompt(row.id, row.dialogue, found[0]))
    if not asked:
        raise ValueError(
            f"prompts: of {len(rows)} none has a last turn of at most the {max(room, 0)} tokens that the policy reads "
            "beside a reply; lower max_new_tokens or give shorter prompts"
        )
    return asked, dict(counts)


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Raises ValueError where the processes of the fit would have a part of the policy each, where an iteration would
    end within an optimizer step, or where names clash.
    """
    if memory.shards(recipe["fit"]):
        raise ValueError(
            "fit.strategy: PPO samples from the whole policy, which FSDP2 spreads over the processes; "
            "add trainer@stages.ppo.fit=ddp (the whole in each) or trainer@stages.ppo.fit=default (one process)"
        )
    batches, accumulate = recipe["ppo_epochs"] * recipe["rollouts"] // recipe["minibatch"], recipe["fit"]["accumulate"]
    if batches % accumulate:
        raise ValueError(
            f"fit.accumulate: {accumulate} minibatches a step do not divide the {batches} of an iteration, which are "
            "ppo_epochs x rollouts / minibatch; take a divisor, or another minibatch"
        )
    if "first" in recipe["ensemble"]:
        raise ValueError("ensemble: 'first' is the name of reward_model itself; take another one")


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Each rollout is sampled, scored by reference and reward model, and learned once a PPO epoch."""
    calls = recipe["iterations"] * recipe["rollouts"] * (3 + recipe["ppo_epochs"])
    length, policy = recipe["prompts"].length, recipe["policy"].shape
    return Estimate(
        None,
        calls,
        calls * (length + recipe["max_new_tokens"]),
        players=1 + len(recipe["snapshots"]),
        memory=memory.ppo(policy, recipe["reward_model"].shape, recipe, length),
        shape=policy,
    )
