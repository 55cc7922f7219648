"""A Llama made new and trained from nothing: what every stage that pretrains one shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate, learned
from cai_lightning.stages.shapes import make_shape


def train_new(
    out: Path,
    tokenizer: Any,
    rows: Sequence[Any],
    *,
    hidden_size: int,
    layers: int,
    heads: int,
    intermediate_size: int,
    max_positions: int,
    data: Callable[..., Any],
    fit: Callable[..., Any],
    optimizer: Callable[..., Any],
    schedule: Callable[..., Any],
    dtype: str,
    seed: int,
) -> None:
    """Writes a causal-LM folder: a new Llama, input and output embeddings tied, fitted to SFT rows; its tokenizer."""
    from cai_lightning.learning.sft import SFTModule
    from cai_lightning.models.causal import new_llama, save_causal
    from cai_lightning.stages.training import batches_of, train

    model = new_llama(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        layers=layers,
        heads=heads,
        intermediate_size=intermediate_size,
        max_positions=max_positions,
        tie=True,
        pad_id=tokenizer.pad_token_id,
        eos_id=tokenizer.eos_token_id,
        seed=seed,
    )
    batches = data(rows, [], seed=seed)
    module = SFTModule(model, optimizer=optimizer, schedule=schedule)
    train(out, module, batches, fit, batches=batches_of(batches, fit), seed=seed)
    save_causal(model, tokenizer, out, dtype=dtype)


def estimate_new(recipe: Mapping[str, Any], *, vocabulary: int, tokens: float) -> Estimate:
    """The shape and memory of training the model that a recipe makes, for `tokens` tokens in all (nan: not known)."""
    shape = make_shape(
        hidden_size=recipe["hidden_size"],
        layers=recipe["layers"],
        heads=recipe["heads"],
        kv_heads=recipe["heads"],
        head_dim=recipe["hidden_size"] // recipe["heads"],
        intermediate_size=recipe["intermediate_size"],
        vocab_size=vocabulary,
        tied=True,
        qkv_bias=False,
    )
    made = Estimate(None, math.nan, tokens, shape=shape)
    return made._replace(memory=learned(recipe, made, head=True))
