"""What training has cost in general skill: the loss of models on plain texts, and its change from one of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import CausalLM, Table


def run(
    out: Path,
    *,
    models: dict[str, CausalLM],
    against: str,
    texts: list[Any],
    length: int,
    stride: int,
    batch_size: int,
    resamples: int,
    dtype: str,
    precision: str,
    seed: int,
) -> Table:
    """`plain_text.json`: for each model nats per token, nats and bits per byte with 95 % intervals over documents.

    And the same as differences to the model named `against`, paired by document. `texts` are readers of plain texts;
    each text is cut into windows of `length` tokens, `stride` apart. `dtype` is the number format of the weights. One
    model is loaded at a time. Raises ValueError where the readers give no text.
    """
    import torch

    from cai_lightning.evaluation.plain_text import Loss, compare, document_losses
    from cai_lightning.models.causal import load_causal
    from cai_lightning.stages.session import autocast, device, prepare, progress

    documents = [text for reading in texts for text in getattr(reading, "rows", reading)]
    if not documents:
        raise ValueError("plain_text: the readers found no text; check their paths and limits")

    # a function of its own: what it has loaded is gone when the next model is
    def measured(folder: Path) -> list[Loss]:
        prepare()
        model, tokenizer = load_causal(folder, dtype=dtype)
        with torch.inference_mode(), autocast(precision):
            return document_losses(
                model.to(device()), tokenizer, documents, length=length, stride=stride, batch_size=batch_size
            )

    losses = {}
    with progress(len(models), "models") as advance:
        for name, folder in models.items():
            losses[name] = measured(folder)
            advance(1)
    table = compare(losses, against=against, resamples=resamples, seed=seed)
    (out / "plain_text.json").write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Nothing is known of texts before they are read."""
    del recipe
    return Estimate(None, math.nan, math.nan, memory=math.nan)
