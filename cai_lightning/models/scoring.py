"""Log-probabilities of continuations by teacher forcing, batched."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel

from cai_lightning.models.logprobs import head, hidden_states, pad_rows, response_logprobs

Span = tuple[list[int], list[list[int]]]
"""The ids of a prompt and of the continuations that compete after it."""


@torch.inference_mode()
def score_spans(model: PreTrainedModel, spans: Sequence[Span], *, pad: int) -> list[tuple[float, ...]]:
    """Summed log-probabilities in nats, one tuple a span, in order; all spans in one batch, the model in eval mode.

    Where every continuation is one token, a single row answers for all of them.
    """
    scores: list[tuple[float, ...]] = [()] * len(spans)
    short = [place for place, (_, tails) in enumerate(spans) if all(len(tail) == 1 for tail in tails)]
    long = sorted(set(range(len(spans))) - set(short))
    if short:
        table = _next_logprobs(model, [spans[place] for place in short], pad)
        for place, values in zip(short, table, strict=True):
            scores[place] = tuple(values[: len(spans[place][1])])
    if long:
        pairs = [(spans[place][0], tail) for place in long for tail in spans[place][1]]
        summed = iter(_tail_logprobs(model, pairs, pad))
        for place in long:
            scores[place] = tuple(next(summed) for _ in spans[place][1])
    return scores


def _next_logprobs(model: PreTrainedModel, spans: Sequence[Span], pad: int) -> list[list[float]]:
    """A row a span: the log-probability of each continuation's one token; rows are as long as the longest."""
    ids = pad_rows([prompt for prompt, _ in spans], pad, 1).to(model.device)
    tokens = pad_rows([[token for (token,) in tails] for _, tails in spans], 0, 1).to(model.device)
    last = torch.tensor([len(prompt) - 1 for prompt, _ in spans], device=ids.device)
    states = hidden_states(model, ids)[torch.arange(len(spans), device=ids.device), last]
    table: list[list[float]] = log_softmax(head(model, states), dim=-1).gather(1, tokens).tolist()
    return table


def _tail_logprobs(model: PreTrainedModel, pairs: Sequence[tuple[list[int], list[int]]], pad: int) -> list[float]:
    """Summed log-probability of each tail after its prompt, one row a pair."""
    ids = pad_rows([prompt + tail for prompt, tail in pairs], pad, 1)
    mask = pad_rows([[0] * len(prompt) + [1] * len(tail) for prompt, tail in pairs], 0, 1)
    ids, mask = ids.to(model.device), mask.to(model.device)
    sums: list[float] = response_logprobs(model, ids, mask, temperature=1.0).sum(1).tolist()
    return sums
