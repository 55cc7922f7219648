"""Pretraining of a small base model on plain text: a tokenizer trained on it and a Llama from nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.stages.new_model import estimate_new, train_new
from cai_lightning.text.artifacts import CausalLM


def run(
    out: Path,
    *,
    texts: list[Any],
    vocabulary: int,
    window: int,
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
) -> CausalLM:
    """A causal-LM folder: a new Llama that has learned every token of the readers' texts, and their BPE tokenizer.

    Texts end with the end token and are cut into windows of at most `window` tokens; those of several readers, and
    equal ones, all count. `counts.json` holds texts, windows and tokens. Raises ValueError where there is no text.
    """
    from cai_lightning.models.tokenizers import bpe
    from cai_lightning.stages.reading import write_counts

    documents = [text for reading in texts for text in getattr(reading, "rows", reading)]
    if not documents:
        raise ValueError("pretrain_text: the readers found no text; check their paths and limits")
    tokenizer = bpe(documents, vocabulary)
    rows = _windows(documents, tokenizer, window)
    tokens = sum(len(row.ids) for row in rows)
    write_counts(out, {"texts": len(documents), "windows": len(rows), "tokens": tokens, "vocabulary": len(tokenizer)})
    train_new(
        out,
        tokenizer,
        rows,
        hidden_size=hidden_size,
        layers=layers,
        heads=heads,
        intermediate_size=intermediate_size,
        max_positions=max_positions,
        data=data,
        fit=fit,
        optimizer=optimizer,
        schedule=schedule,
        dtype=dtype,
        seed=seed,
    )
    return out


def _windows(documents: list[str], tokenizer: Any, window: int) -> list[Any]:
    """Rows of weight 1 on every token; a window of a single token would teach nothing and is left out."""
    from cai_lightning.data.sft import SFTRow

    rows = []
    for text in tokenizer(documents, add_special_tokens=False).input_ids:
        ids = [*text, tokenizer.eos_token_id]
        cuts = (ids[start : start + window] for start in range(0, len(ids), window))
        rows += [SFTRow(cut, [1.0] * len(cut)) for cut in cuts if len(cut) > 1]
    return rows


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Nothing is known of texts before they are read, and of the tokenizer only how large it may become."""
    return estimate_new(recipe, vocabulary=recipe["vocabulary"], tokens=math.nan)
