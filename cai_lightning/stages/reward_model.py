"""The reward model (the paper's preference model): Bradley-Terry on AI and human labels together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate, taken
from cai_lightning.text.artifacts import CausalLM, LabelRows, RewardModel


def run(
    out: Path,
    *,
    policy: CausalLM,
    labels: dict[str, LabelRows],
    limits: dict[str, int | None],
    weights: dict[str, float],
    marker: str | None,
    mean: bool,
    gain: float,
    head_std: float,
    centre_coef: float,
    optimizer: Callable[..., Any],
    schedule: Callable[..., Any],
    data: Callable[..., Any],
    fit: Callable[..., Any],
    max_tokens: int,
    dtype: str,
    seed: int,
) -> RewardModel:
    """A sequence-classification folder with one label: the trunk of `policy`, a new head, trained on soft labels.

    Source: Bai et al. 2022, section 4.1 (soft targets, helpful and harmless labels mixed). The score is read at the end
    token, or with `mean` over all reply tokens; `marker` opens the reply.
    """
    from cai_lightning.data.pairs import pair_rows
    from cai_lightning.learning.reward_model import RewardModule
    from cai_lightning.models.causal import pad_id
    from cai_lightning.models.format import Format
    from cai_lightning.models.reward import reward_from_causal, save_reward
    from cai_lightning.stages.mixture import mixed_labels
    from cai_lightning.stages.reading import write_counts
    from cai_lightning.stages.training import batches_of, train

    model, tokenizer = reward_from_causal(
        policy, marker=marker, mean=mean, gain=gain, head_std=head_std, dtype="float32", seed=seed
    )
    chosen = mixed_labels(labels, limits=limits, weights=weights, seed=seed)
    rows, counts = pair_rows(chosen, None, Format(tokenizer), asked=model.asked, max_tokens=max_tokens)
    write_counts(out, counts)
    batches = data(rows, [], pad=pad_id(tokenizer), seed=seed)
    module = RewardModule(model, centre_coef=centre_coef, optimizer=optimizer, schedule=schedule)
    train(out, module, batches, fit, batches=batches_of(batches, fit), seed=seed)
    save_reward(model, tokenizer, out, dtype=dtype)
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Two texts a label and epoch."""
    rows, tokens = taken(recipe["labels"], recipe["limits"])
    return Estimate(None, 2 * rows * recipe["fit"]["epochs"], tokens * recipe["fit"]["epochs"])
