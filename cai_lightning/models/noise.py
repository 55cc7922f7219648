"""Sampling noise as a pure function of (seed, row, position, token), so that no batch or device can change it."""
# ruff: noqa: F722 - the quoted names are jaxtyping dimensions

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Float32, Int64
from torch import Tensor


def _signed(value: int) -> int:
    """The 64-bit two's-complement reading of an integer, as int64 tensors hold it."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


_STEP = _signed(0x9E3779B97F4A7C15)  # the constants of splitmix64 (Steele, Lea, Flood 2014)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def row_key(row: str) -> int:
    """The 63-bit key of a row name: the head of its SHA-256."""
    return int.from_bytes(hashlib.sha256(row.encode()).digest()[:8], "big") >> 1


def gumbel(
    seed: int, rows: Int64[Tensor, " rows"], position: int | Int64[Tensor, " rows"], vocab: int
) -> Float32[Tensor, "rows {vocab}"]:
    """Standard Gumbel noise, one value a row and token: a pure function of (seed, row key, position, token id).

    `argmax(logits + noise)` is then a draw from softmax(logits) (Gumbel-max). The hash bits are integers and equal on
    every device; the logarithms are taken in float64 so that the rounded value does not depend on the maths library.
    """
    state = _mix(rows + _signed(_mix_int(seed)))
    state = _mix(state + (torch.as_tensor(position, device=rows.device) + 1) * _STEP)
    tokens = torch.arange(1, vocab + 1, device=rows.device) * _STEP
    bits = _mix(state[:, None] + tokens)
    # 63 bits near zero keep the large values exact: 1 - u would round them to a handful of levels
    uniform = _shift(bits, 1).double().add_(0.5).mul_(2.0**-63).clamp_(max=1 - 2.0**-53)
    return uniform.neg_().log1p_().neg_().log_().neg_().float()


def _mix(z: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
    """The splitmix64 finaliser; works in place, on a tensor of its own caller."""
    z.bitwise_xor_(_shift(z, 30)).mul_(_FIRST)
    z.bitwise_xor_(_shift(z, 27)).mul_(_SECOND)
    return z.bitwise_xor_(_shift(z, 31))


def _mix_int(value: int) -> int:
    return int(_mix(torch.tensor(_signed(value), dtype=torch.int64)))


def _shift(z: Int64[Tensor, "*shape"], bits: int) -> Int64[Tensor, "*shape"]:
    """A logical right shift: torch's own copies the sign bit."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)
