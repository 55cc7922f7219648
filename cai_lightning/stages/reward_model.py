"""The reward model (the paper's preference model): Bradley-Terry on AI and human labels together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate, learned, taken
from cai_lightning.text.artifacts import CausalLM, LabelRows, RewardModel


def run(
    out: Path,
    *,
    policy: CausalLM | RewardModel,
    labels: dict[str, LabelRows],
    limits: dict[str, int | None],
    weights: dict[str, float],
    part: dict[str, int] | None,
    marker: str | None,
    mean: bool,
    gain: float,
    head_std: float,
    centre_coef: float,
    adapter: Callable[..., None],
    base_dtype: str,
    optimizer: Callable[..., Any],
    schedule: Callable[..., Any],
    data: Callable[..., Any],
    fit: Callable[..., Any],
    max_tokens: int,
    checked_labels: int,
    score_tolerance: float,
    dtype: str,
    seed: int,
) -> RewardModel:
    """A sequence-classification folder with one label: the trunk of `policy`, a head, trained on soft labels.

    Over a causal model the head is new, normal with standard deviation `head_std`; a reward model goes on with its own.
    So one that was trained on votes may come first: preference model pretraining (Askell et al. 2021, section 4).
    Source: Bai et al. 2022, section 4.1 (soft targets, helpful and harmless labels mixed). The score is read at the end
    token, or with `mean` over all reply tokens; `marker` opens the reply. `adapter` says what of the trunk learns,
    `base_dtype` is the number format of what does not. A saved adapter must score the first `checked_labels` pairs as
    before, within `score_tolerance`.
    """
    from cai_lightning.data.pairs import pair_rows
    from cai_lightning.learning.reward_model import RewardModule
    from cai_lightning.models.engine import fits
    from cai_lightning.models.format import Format
    from cai_lightning.models.lineage import is_reward
    from cai_lightning.models.reward import reward_from_causal, reward_from_reward, save_reward
    from cai_lightning.stages.checks import scores_as_saved, supervision
    from cai_lightning.stages.mixture import mixed_labels
    from cai_lightning.stages.reading import write_counts
    from cai_lightning.stages.session import prepare
    from cai_lightning.stages.training import batches_of, train

    prepare()
    start = reward_from_reward if is_reward(policy) else partial(reward_from_causal, head_std=head_std)
    model, tokenizer = start(policy, adapter=adapter, marker=marker, mean=mean, gain=gain, dtype=base_dtype, seed=seed)
    fits(model.model, max_tokens)
    chosen = mixed_labels(labels, limits=limits, weights=weights, part=part, seed=seed)
    format = Format(tokenizer)
    rows, counts = pair_rows(chosen, None, format, asked=model.asked, max_tokens=max_tokens, folder=out)
    write_counts(out, counts)
    batches = data(rows, [], seed=seed)
    module = RewardModule(model, centre_coef=centre_coef, optimizer=optimizer, schedule=schedule, sources=rows.sources)
    every_end = not counts["no_end"]
    checks = [supervision(format, marker=marker, every_end=every_end)]
    train(out, module, batches, fit, batches=batches_of(batches, fit), seed=seed, callbacks=checks)
    save_reward(model, tokenizer, out, parent=policy, dtype=dtype)
    scores_as_saved(model, tokenizer, out, chosen[:checked_labels], tolerance=score_tolerance)
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Two texts a label and epoch."""
    rows, tokens = taken(recipe["labels"], recipe["limits"], recipe["part"])
    model, epochs = recipe["policy"], recipe["fit"]["epochs"]
    return Estimate(
        None, 2 * rows * epochs, tokens * epochs, memory=learned(recipe, model, head=False), shape=model.shape
    )
