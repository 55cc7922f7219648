"""Token log-probabilities of given texts: the output head runs only where one is read, in float32."""
# ruff: noqa: F722 - the quoted names are jaxtyping dimensions

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor, nn
from torch.nn import functional

from cai_lightning.models.attention import hidden_states
from cai_lightning.models.packing import Packed, owners, places

_RESCALED = ("logits_scaling", "logit_scale", "final_logit_softcapping")


def token_logprobs(
    model: nn.Module, packed: Packed, targets: Int64[Tensor, " target"], *, temperature: float
) -> Float32[Tensor, " target"]:
    """Log-probabilities in nats of the tokens at the places `targets`, each after the token before it in its text.

    Logits are divided by `temperature`. A text's first token has no probability, so its place is none of `targets`.
    """
    states = hidden_states(model, packed)
    return chosen_logprobs(logits_of(model, packed, targets, states, temperature=temperature), packed.ids[targets])


def branch_logprobs(model: nn.Module, packed: Packed, *, temperature: float) -> Float32[Tensor, " branch"]:
    """Summed log-probabilities in nats of the branches of a packed row, none of which begins its text."""
    values = token_logprobs(model, packed, places(packed).to(packed.ids.device), temperature=temperature)
    return branch_sums(packed, values)


def branch_sums(packed: Packed, values: Float[Tensor, " target"]) -> Float32[Tensor, " branch"]:
    """What the entries of `places` sum to in each branch."""
    sums = torch.zeros(len(packed.branches), dtype=torch.float32, device=values.device)
    return sums.index_add(0, owners(packed).to(values.device), values.float())


def logits_of(model: nn.Module, packed: Packed, targets: Tensor, states: Tensor, *, temperature: float) -> Tensor:
    """Float32 logits [target, vocab] of the tokens at `targets`, from the states [token, hidden] of the whole row.

    The one shift from a token to that before it is here.
    """
    logits = head(model, states[packed.previous[targets]])
    return logits if temperature == 1 else logits / temperature


def chosen_logprobs(
    logits: Float32[Tensor, "target vocab"], ids: Int64[Tensor, " target"]
) -> Float32[Tensor, " target"]:
    """The log-probability in nats of one id in each row of logits."""
    return -functional.cross_entropy(logits, ids, reduction="none")


def entropies(logits: Float32[Tensor, "target vocab"]) -> Float32[Tensor, " target"]:
    """The entropy in nats of the distribution that each row of logits is."""
    every = functional.log_softmax(logits, dim=-1)
    return -(every.exp() * every).sum(-1)


def head(model: Any, states: Float[Tensor, "*batch hidden"]) -> Float32[Tensor, "*batch vocab"]:
    """The float32 logits of hidden states. Raises ValueError for models that rescale theirs after the head."""
    for name in _RESCALED:
        if getattr(model.config, name, None) not in (None, 1.0):
            raise ValueError(f"models with {name} in their config are not supported: their head is not the whole map")
    logits: Tensor = model.get_output_embeddings()(states)
    return logits.float()


def place(values: Float[Tensor, " entry"], wanted: Bool[Tensor, "row step"]) -> Float32[Tensor, "row step"]:
    """Float32 values put where the mask `wanted` is true, row by row; 0 elsewhere."""
    return torch.zeros(wanted.shape, dtype=torch.float32, device=wanted.device).masked_scatter(wanted, values.float())
