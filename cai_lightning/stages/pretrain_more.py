"""More pretraining of the micro-world's base model: a second text on top of the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate, learned
from cai_lightning.stages.pretrain import text_rows
from cai_lightning.text.artifacts import CausalLM


def run(
    out: Path,
    *,
    start: CausalLM,
    documents: Iterator[Any],
    tokens: int,
    data: Callable[..., Any],
    fit: Callable[..., Any],
    optimizer: Callable[..., Any],
    schedule: Callable[..., Any],
    dtype: str,
    seed: int,
) -> CausalLM:
    """A causal-LM folder: `start`, every weight trained once over the first documents that make `tokens` tokens.

    The loss is the mean over completion tokens, each with the weight that its document gives it. Raises ValueError
    where the vocabulary of `start` is another than the micro-world's.
    """
    from cai_lightning.learning.sft import SFTModule
    from cai_lightning.microworld.vocabulary import tokenizer as make_tokenizer
    from cai_lightning.models.causal import load_causal, save_causal
    from cai_lightning.stages.training import batches_of, train

    tokenizer = make_tokenizer()
    model, known = load_causal(start, dtype="float32")
    if known.get_vocab() != tokenizer.get_vocab():
        raise ValueError(
            f"start: {start} has another vocabulary than the micro-world; name one that was pretrained on it"
        )
    batches = data(text_rows(documents, tokenizer, tokens), [], seed=seed)
    module = SFTModule(model, optimizer=optimizer, schedule=schedule)
    train(out, module, batches, fit, batches=batches_of(batches, fit), seed=seed)
    save_causal(model, tokenizer, out, dtype=dtype)
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """The tokens asked for; how many documents hold them is not known."""
    start = recipe["start"]
    return Estimate(None, float("nan"), recipe["tokens"], memory=learned(recipe, start, head=True), shape=start.shape)
