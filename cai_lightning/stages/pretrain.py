"""Pretraining of the micro-world's base model on its own text: the helpful-only model with its skills."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.stages.new_model import estimate_new, train_new
from cai_lightning.text.artifacts import CausalLM


def run(
    out: Path,
    *,
    documents: Iterator[Any],
    tokens: int,
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
    """A causal-LM folder: a new Llama trained once over the first documents that make `tokens` tokens.

    The loss is the mean over completion tokens, each with the weight that its document gives it.
    """
    from cai_lightning.microworld.vocabulary import tokenizer as make_tokenizer

    tokenizer = make_tokenizer()
    rows = text_rows(documents, tokenizer, tokens)
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


def text_rows(documents: Iterator[Any], tokenizer: Any, tokens: int) -> list[Any]:
    """Token rows of the first documents that together have at least `tokens` tokens."""
    vocabulary = tokenizer.get_vocab()
    rows, total = [], 0
    while total < tokens:
        rows.append(_row(next(documents), vocabulary, tokenizer.eos_token_id))
        total += len(rows[-1].ids)
    return rows


def _row(document: Any, vocabulary: dict[str, int], eos: int) -> Any:
    """Ids and weights of a document; its pieces are looked up one by one, which is the tokenizer's own rule."""
    from cai_lightning.data.sft import SFTRow
    from cai_lightning.microworld.document import pieces

    said = [(piece, span.weight) for span in document.spans for piece in pieces(span.text)]
    if unknown := [piece for piece, _ in said if piece not in vocabulary]:
        raise ValueError(f"pretraining text holds {unknown[0]!r}, which the vocabulary lacks; add it to the grammar")
    ids = [vocabulary[piece] for piece, _ in said]
    return SFTRow([*ids, eos], [*(weight for _, weight in said), document.end_weight])


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """The tokens asked for; how many documents hold them is not known."""
    from cai_lightning.microworld.vocabulary import SPECIALS, words

    return estimate_new(recipe, vocabulary=len(SPECIALS) + len(words()), tokens=recipe["tokens"])
