"""How well a language model predicts plain text: negative log-likelihood per token and per byte, by document.

Set before and after each stage of alignment on one set of texts, it is what training has cost in general skill. Per
byte, models with different tokenizers compare; per token, only those with the same one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cai_lightning.evaluation.intervals import Draws, Floats, draws, estimate
from cai_lightning.models.causal import evaluating
from cai_lightning.models.encoding import decode, prompts_ids
from cai_lightning.models.logprobs import branch_logprobs
from cai_lightning.models.packing import Tree, pack


class Loss(NamedTuple):
    """What a model lost on one document: nats, and the tokens and UTF-8 bytes that they are for."""

    nats: float
    tokens: int
    bytes: int


class Window(NamedTuple):
    """Part of a document: tokens `start` to `end`, of which those from `scored` on count; the others are context."""

    start: int
    end: int
    scored: int


def windows(tokens: int, *, length: int, stride: int) -> list[Window]:
    """Windows of at most `length` tokens, each `stride` on from the last; every token but the first is scored once.

    So all but the first window's tokens are read after at least `length - stride` others. Raises ValueError unless
    1 <= stride < length.
    """
    if not 1 <= stride < length:
        raise ValueError(f"windows: stride {stride} given for windows of {length} tokens; it must be 1 to length - 1")
    found: list[Window] = []
    scored = 1
    while scored < tokens:
        start = len(found) * stride
        end = min(start + length, tokens)
        found.append(Window(start, end, scored))
        scored = end
    return found


@torch.inference_mode()
def document_losses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    length: int,
    stride: int,
    batch_size: int,
) -> list[Loss]:
    """The loss on each text, in order; texts that leave no token to score have 0 of everything.

    A text's first token has no probability: it is the begin token where the tokenizer has one, else the text's own,
    which then counts neither as token nor in bytes.
    """
    rows = prompts_ids(tokenizer, list(texts))
    cut = [
        (number, window)
        for number, ids in enumerate(rows)
        for window in windows(len(ids), length=length, stride=stride)
    ]
    nats = np.zeros(len(rows))
    with evaluating(model):
        for at in range(0, len(cut), batch_size):
            part = cut[at : at + batch_size]
            read = [
                Tree(rows[number][window.start : window.scored], [rows[number][window.scored : window.end]])
                for number, window in part
            ]
            found = branch_logprobs(model, pack(read).to(model.device), temperature=1.0)
            np.add.at(nats, [number for number, _ in part], -found.double().cpu().numpy())
    begins = bool(rows) and len(prompts_ids(tokenizer, [""])[0]) == 1
    return [
        Loss(float(lost), max(len(ids) - 1, 0), len((text if begins else decode(tokenizer, ids[1:])).encode()))
        for lost, ids, text in zip(nats, rows, texts, strict=True)
    ]


def compare(losses: Mapping[str, Sequence[Loss]], *, against: str, resamples: int, seed: int) -> dict[str, Any]:
    """For each model its loss with 95 % intervals over documents, and its difference to model `against`, paired.

    `nats_per_token`, `nats_per_byte`, `bits_per_byte`: totals over totals, so long documents weigh more. `difference`
    has the same figures, per token only where both read the same number of tokens in each document; null for
    `against` itself. Raises ValueError where that is no model, or where there are no tokens to score.
    """
    if against not in losses:
        raise ValueError(f"plain text: {against!r}, which others are compared with, is none of {', '.join(losses)}")
    if any(not sum(loss.tokens for loss in found) for found in losses.values()):
        raise ValueError("plain text: no text has two tokens, so there is nothing to score")
    documents = len(losses[against])
    drawn = draws(["text"] * documents, 1, resamples=resamples, seed=seed)
    ratios = {name: _ratios(found, drawn) for name, found in losses.items()}
    table: dict[str, Any] = {}
    for name, found in losses.items():
        same = [loss.tokens for loss in found] == [loss.tokens for loss in losses[against]]
        change = {
            unit: _figure(rows - ratios[against][unit], drawn, documents)
            for unit, rows in ratios[name].items()
            if same or unit != "nats_per_token"
        }
        table[name] = {
            "documents": documents,
            "tokens": sum(loss.tokens for loss in found),
            "bytes": sum(loss.bytes for loss in found),
            **{unit: _figure(rows, drawn, documents) for unit, rows in ratios[name].items()},
            "difference": None if name == against else change,
        }
    return table


def _ratios(found: Sequence[Loss], drawn: Draws) -> dict[str, Floats]:
    """The point and the resamples (rows,) of each figure."""
    nats, tokens, size = (drawn.sums(column[None, :]) for column in np.array(found, dtype=np.float64).T)
    return {
        "nats_per_token": nats / tokens,
        "nats_per_byte": nats / size,
        "bits_per_byte": nats / size / math.log(2),
    }


def _figure(rows: Floats, drawn: Draws, documents: int) -> dict[str, Any]:
    bounds = drawn.interval(rows, documents) if documents > 1 else (None, None)
    return estimate(float(rows[0]), bounds, documents)
