"""A key-value cache that is written in place and read as one contiguous block; HF's own is copied at every step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

# Room is set aside in blocks of this many tokens. Attention over a whole block with the empty end masked is twice as
# fast on a CPU as over a strided slice of it.
_BLOCK = 16


def capacity(length: int) -> int:
    """The tokens a row that a cache holds room for when `length` are filled: what a decode step's mask must cover."""
    return -(-length // _BLOCK) * _BLOCK


class SlotLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's `keys` and `values`, [rows, heads, capacity, width], zero behind the filled part.

    The first `update` takes a whole prompt and returns just that; each later one takes one token a row and returns
    everything, empty end included, so its mask must hide what is not filled.
    """

    filled = 0

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keys and values to attend to, the new ones written behind the old."""
        start, self.filled = self.filled, self.filled + key_states.shape[-2]
        if start == 0:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.keys, self.values = _extended(key_states, self.filled), _extended(value_states, self.filled)
            return key_states, value_states
        if self.filled > self.keys.shape[-2]:
            self.keys, self.values = _extended(self.keys, self.filled), _extended(self.values, self.filled)
        self.keys[:, :, start : self.filled] = key_states
        self.values[:, :, start : self.filled] = value_states
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """The tokens a row that are filled."""
        return self.filled

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keeps only these rows."""
        self.keys, self.values = self.keys.index_select(0, indices), self.values.index_select(0, indices)


def slot_cache(layers: int) -> Cache:
    """An empty cache of `layers` slot layers."""
    return Cache(layers=[SlotLayer() for _ in range(layers)])


def _extended(states: Tensor, length: int) -> Tensor:
    """The states with zeros behind them, up to the capacity for `length`."""
    rows, heads, time, width = states.shape
    return torch.cat([states, states.new_zeros(rows, heads, capacity(length) - time, width)], dim=2)
