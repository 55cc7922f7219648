"""A policy trained directly on replies rated alone: yes or no, or a probability; labels are taken apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages import memory
from cai_lightning.stages.estimates import Estimate, learned, taken
from cai_lightning.stages.losses import check_of_replies
from cai_lightning.text.artifacts import CausalLM, LabelRows, RatingRows
from cai_lightning.text.records import Rating


def run(
    out: Path,
    *,
    policy: CausalLM,
    labels: dict[str, LabelRows],
    limits: dict[str, int | None],
    weights: dict[str, float],
    ratings: dict[str, RatingRows],
    rating_limits: dict[str, int | None],
    rating_weights: dict[str, float],
    part: dict[str, int] | None,
    loss: Callable[..., Any],
    adapter: Callable[..., None],
    base_dtype: str,
    optimizer: Callable[..., Any],
    schedule: Callable[..., Any],
    data: Callable[..., Any],
    fit: Any,
    max_tokens: int,
    first_loss_tolerance: float,
    dtype: str,
    seed: int,
) -> CausalLM:
    """A causal-LM folder: `policy` after KTO (Ethayarajh et al. 2024), with soft ratings.

    Each label gives two ratings, its likelier reply's by p and the other's by 1 - p; `ratings` come as they are. The
    reference is `policy` as it was, asked batch by batch: the policy without its adapter, or another copy of it.
    `adapter` says what of it learns, `base_dtype` is the number format of what does not.
    """
    from cai_lightning.data.pairs import as_asked
    from cai_lightning.data.unpaired import taken_apart, unpaired_rows
    from cai_lightning.learning.preference import live_reference
    from cai_lightning.learning.unpaired import UnpairedModule
    from cai_lightning.models.causal import load_causal, save_trained
    from cai_lightning.models.engine import fits
    from cai_lightning.models.format import Format
    from cai_lightning.stages.checks import starts_unmoved, supervision
    from cai_lightning.stages.mixture import mixed, mixed_labels
    from cai_lightning.stages.reading import write_counts
    from cai_lightning.stages.session import prepare
    from cai_lightning.stages.training import batches_of, train

    prepare()
    model, tokenizer = load_causal(policy, dtype=base_dtype, merge=False)
    fits(model, max_tokens)
    adapter(model, seed=seed)
    live = live_reference(model, lambda: load_causal(policy, dtype=base_dtype)[0])
    apart = taken_apart(mixed_labels(labels, limits=limits, weights=weights, part=part, seed=seed))
    alone = mixed(Rating, ratings, limits=rating_limits, weights=rating_weights, part=part, seed=seed)
    format = Format(tokenizer)
    rows, counts = unpaired_rows([*apart, *alone], format, asked=as_asked, max_tokens=max_tokens, folder=out)
    if not rows:
        raise ValueError(f"labels, ratings: hold no row to learn from ({counts}); name some, or raise limits")
    write_counts(out, counts)
    batches = data(rows, [], seed=seed)
    module = UnpairedModule(model, loss=loss, live=live, optimizer=optimizer, schedule=schedule)
    checks = [
        supervision(format, every_end=not counts["no_end"]),
        starts_unmoved(loss, tolerance=first_loss_tolerance),
    ]
    train(out, module, batches, fit, batches=batches_of(batches, fit), seed=seed, callbacks=checks)
    save_trained(model, tokenizer, out, parent=policy, dtype=dtype)
    return out


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Raises ValueError where the loss is one of pairs."""
    check_of_replies(recipe)


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Two texts a label and epoch, one a rating, each read again behind another prompt; a whole reference beside it."""
    labels, tokens = taken(recipe["labels"], recipe["limits"])
    ratings, more = taken(recipe["ratings"], recipe["rating_limits"])
    model, epochs = recipe["policy"], recipe["fit"]["epochs"]
    copy = (recipe.get("adapter") or {}).get("rank") is None
    needed = learned(recipe, model, head=True) + (memory.weights(model.shape, str(recipe["base_dtype"])) if copy else 0)
    texts = 2 * (2 * labels + ratings) * epochs
    return Estimate(None, texts, 2 * (tokens + more) * epochs, memory=needed, shape=model.shape)
