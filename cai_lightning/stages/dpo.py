"""A policy trained directly on labelled pairs; the loss (DPO, IPO, SimPO, ...) is a part of the recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate, learned, taken
from cai_lightning.stages.losses import UNREAD, check_of_pairs
from cai_lightning.text.artifacts import CausalLM, LabelRows, ReferenceRows
from cai_lightning.text.records import Reference, read_rows


def run(
    out: Path,
    *,
    policy: CausalLM,
    reference: ReferenceRows | None,
    labels: dict[str, LabelRows],
    limits: dict[str, int | None],
    weights: dict[str, float],
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
    """A causal-LM folder: `policy` after the preference loss (Rafailov et al. 2023), with soft AI labels.

    The reference is `policy` as it was: its log-probabilities are read from `reference`, or where that is null, made
    batch by batch, by the policy without its adapter or by another copy of it. A loss that needs none gets none.
    `adapter` says what of it learns, `base_dtype` is the number format of what does not.
    """
    from cai_lightning.data.pairs import as_asked, pair_rows
    from cai_lightning.learning.losses import needs_reference
    from cai_lightning.learning.preference import PreferenceModule, live_reference
    from cai_lightning.models.causal import load_causal, save_trained
    from cai_lightning.models.engine import fits
    from cai_lightning.models.format import Format
    from cai_lightning.stages.checks import starts_at_the_reference, supervision
    from cai_lightning.stages.mixture import mixed_labels
    from cai_lightning.stages.reading import write_counts
    from cai_lightning.stages.session import prepare
    from cai_lightning.stages.training import batches_of, train

    if reference is not None and not needs_reference(loss):
        raise ValueError(UNREAD)
    prepare()
    model, tokenizer = load_causal(policy, dtype=base_dtype, merge=False)
    fits(model, max_tokens)
    adapter(model, seed=seed)
    chosen = mixed_labels(labels, limits=limits, weights=weights, part=part, seed=seed)
    references = None if reference is None else {row.id: row for row in read_rows(reference, Reference)}
    live = None
    if references is None and needs_reference(loss):
        live = live_reference(model, lambda: load_causal(policy, dtype=base_dtype)[0])
    format = Format(tokenizer)
    rows, counts = pair_rows(chosen, references, format, asked=as_asked, max_tokens=max_tokens, folder=out)
    write_counts(out, counts)
    batches = data(rows, [], seed=seed)
    module = PreferenceModule(model, loss=loss, live=live, optimizer=optimizer, schedule=schedule, sources=rows.sources)
    checks = [supervision(format, every_end=not counts["no_end"])]
    if needs_reference(loss):
        checks.append(starts_at_the_reference(loss, tolerance=first_loss_tolerance))
    train(out, module, batches, fit, batches=batches_of(batches, fit), seed=seed, callbacks=checks)
    save_trained(model, tokenizer, out, parent=policy, dtype=dtype)
    return out


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Raises ValueError where the loss is not one of pairs, or is given a reference that it does not read."""
    check_of_pairs(recipe)


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Two texts a label and epoch."""
    rows, tokens = taken(recipe["labels"], recipe["limits"], recipe["part"])
    model, epochs = recipe["policy"], recipe["fit"]["epochs"]
    return Estimate(
        None, 2 * rows * epochs, tokens * epochs, memory=learned(recipe, model, head=True), shape=model.shape
    )
