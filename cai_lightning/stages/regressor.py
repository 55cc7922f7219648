"""A regressor: a reward model whose score is the rating that a reply alone would get, such as its harm from 0 to 4."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate, learned, taken
from cai_lightning.text.artifacts import CausalLM, RatingRows, RewardModel
from cai_lightning.text.records import Rating


def run(
    out: Path,
    *,
    policy: CausalLM,
    ratings: dict[str, RatingRows],
    limits: dict[str, int | None],
    weights: dict[str, float],
    part: dict[str, int] | None,
    undesirable: float,
    desirable: float,
    marker: str | None,
    mean: bool,
    gain: float,
    head_std: float,
    adapter: Callable[..., None],
    base_dtype: str,
    optimizer: Callable[..., Any],
    schedule: Callable[..., Any],
    data: Callable[..., Any],
    fit: Callable[..., Any],
    max_tokens: int,
    dtype: str,
    seed: int,
) -> RewardModel:
    """A sequence-classification folder with one label, trained by squared error; its score is in units of the rating.

    Source: the paper's absolute harmfulness (Bai et al. 2022, section 4.5), whose ratings are 0 (`desirable`) to 4
    (`undesirable`) on red-team attempts. The score is read as a reward model's is, see `stages.reward_model`; `adapter`
    says what of the trunk of `policy` learns. Raises ValueError where no rating is left to learn from.
    """
    from cai_lightning.data.unpaired import unpaired_rows
    from cai_lightning.learning.regressor import RegressorModule
    from cai_lightning.models.engine import fits
    from cai_lightning.models.format import Format
    from cai_lightning.models.reward import reward_from_causal, save_reward
    from cai_lightning.stages.checks import supervision
    from cai_lightning.stages.mixture import mixed
    from cai_lightning.stages.reading import write_counts
    from cai_lightning.stages.session import prepare
    from cai_lightning.stages.training import batches_of, train

    prepare()
    start = partial(reward_from_causal, policy, adapter=adapter, dtype=base_dtype, head_std=head_std, seed=seed)
    model, tokenizer = start(marker=marker, mean=mean, gain=gain)
    fits(model.model, max_tokens)
    rated = mixed(Rating, ratings, limits=limits, weights=weights, part=part, seed=seed)
    format = Format(tokenizer)
    rows, counts = unpaired_rows(rated, format, asked=model.asked, max_tokens=max_tokens, folder=out)
    if not rows:
        raise ValueError(f"ratings: hold no row to learn from ({counts}); name some, or raise limits")
    write_counts(out, counts)
    batches = data(rows, [], seed=seed)
    module = RegressorModule(
        model, undesirable=undesirable, desirable=desirable, optimizer=optimizer, schedule=schedule
    )
    checks = [supervision(format, marker=marker, every_end=not counts["no_end"])]
    train(out, module, batches, fit, batches=batches_of(batches, fit), seed=seed, callbacks=checks)
    save_reward(model, tokenizer, out, parent=policy, dtype=dtype)
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """One text a rating and epoch."""
    rows, tokens = taken(recipe["ratings"], recipe["limits"], recipe["part"])
    model, epochs = recipe["policy"], recipe["fit"]["epochs"]
    memory = learned(recipe, model, head=False)
    return Estimate(None, rows * epochs, tokens * epochs, memory=memory, shape=model.shape)
