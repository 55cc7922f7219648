"""Token log-probabilities of given texts: one shift, one place, float32.

Rows are right-padded and no attention mask is passed. That is exact: in a causal model a token sees only what
stands left of it, so pads, which stand right of every real token, cannot reach one, and positions count from 0.
"""
# ruff: noqa: F722 - the quoted names are jaxtyping dimensions

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float32, Int64, Shaped
from torch import Tensor, nn
from torch.nn import functional

_RESCALED = ("logits_scaling", "logit_scale", "final_logit_softcapping")


def pad_rows(rows: Sequence[Sequence[int]], pad: int, multiple: int) -> Int64[Tensor, "rows time"]:
    """The rows as one CPU tensor, right-padded to the next multiple of `multiple` tokens."""
    longest = max(map(len, rows), default=0)
    width = -(-longest // multiple) * multiple
    return torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], dtype=torch.int64).view(len(rows), width)


def hidden_states(model: nn.Module, input_ids: Int64[Tensor, "rows time"]) -> Float[Tensor, "rows time hidden"]:
    """The last layer's states of right-padded rows, without the output head."""
    states: Tensor = model.get_decoder()(input_ids=input_ids, use_cache=False).last_hidden_state  # type: ignore[operator]
    return states


def response_logprobs(
    model: nn.Module,
    input_ids: Int64[Tensor, "rows time"],
    mask: Shaped[Tensor, "rows time"],
    *,
    temperature: float,
) -> Float32[Tensor, "rows time-1"]:
    """Log-probabilities in nats of the tokens that `mask` marks: entry t belongs to token t+1; 0 elsewhere.

    The head runs at the wanted positions only; logits are divided by `temperature`. Token 0 has no probability, so
    mask[:, 0] is ignored.
    """
    wanted = mask[:, 1:].bool()
    logits = _logits(model, input_ids, wanted, temperature)
    values = -functional.cross_entropy(logits, input_ids[:, 1:][wanted], reduction="none")
    return place(values, wanted)


def logprobs_and_entropy(
    model: nn.Module,
    input_ids: Int64[Tensor, "rows time"],
    mask: Shaped[Tensor, "rows time"],
    *,
    temperature: float,
) -> tuple[Float32[Tensor, "rows time-1"], Float32[Tensor, "rows time-1"]]:
    """`response_logprobs`, and the entropy in nats of the distributions that the tokens were drawn from."""
    wanted = mask[:, 1:].bool()
    every = functional.log_softmax(_logits(model, input_ids, wanted, temperature), dim=-1)
    values = every.gather(1, input_ids[:, 1:][wanted][:, None])[:, 0]
    entropy = -(every.exp() * every).sum(-1)
    return place(values, wanted), place(entropy, wanted)


def _logits(model: nn.Module, input_ids: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Float32 logits [wanted tokens, vocab] of the positions before the wanted tokens. The one shift is here."""
    return head(model, hidden_states(model, input_ids)[:, :-1][wanted]) / temperature


def head(model: nn.Module, states: Float[Tensor, "*batch hidden"]) -> Float32[Tensor, "*batch vocab"]:
    """The float32 logits of hidden states. Raises ValueError for models that rescale theirs after the head."""
    for name in _RESCALED:
        if getattr(model.config, name, None) not in (None, 1.0):
            raise ValueError(f"models with {name} in their config are not supported: their head is not the whole map")
    logits: Tensor = model.get_output_embeddings()(states)  # type: ignore[operator]
    return logits.float()


def place(values: Tensor, wanted: Tensor) -> Tensor:
    """Float32 values put where the bool mask `wanted` is true, row by row; 0 elsewhere."""
    return torch.zeros(wanted.shape, dtype=torch.float32, device=wanted.device).masked_scatter(wanted, values.float())
