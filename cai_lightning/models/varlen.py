"""Attention over packed rows where there is no CPU: one call of variable-length attention, or explicit scores.

What has been measured here is the layout, against explicit scores; the kernels themselves need a GPU.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cai_lightning.models.packing import Segment

Heads = Float[Tensor, "token heads width"]


class Ragged(NamedTuple):
    """What variable-length attention is told: where keys come from, and where each text's queries and keys begin."""

    keys: Tensor
    query_starts: Tensor
    key_starts: Tensor
    longest_query: int
    longest_key: int


@lru_cache(maxsize=8)
def ragged(segments: tuple[Segment, ...], before: int) -> Ragged:
    """The layout of segments for a causal mask that is aligned at the end of each text, as flash attention has it.

    Keys are those of `before` tokens that all see, then the row's.
    """
    keys, queries, lengths = [], [0], [0]
    for start, stop, context_start, context_stop in segments:
        parts = (0, before), (before + context_start, before + context_stop), (before + start, before + stop)
        keys += [torch.arange(*part) for part in parts]
        queries.append(queries[-1] + stop - start)
        lengths.append(lengths[-1] + sum(past - first for first, past in parts))
    starts = torch.tensor(queries, dtype=torch.int32), torch.tensor(lengths, dtype=torch.int32)
    longest = [int(torch.diff(each).max()) for each in starts]
    return Ragged(torch.cat(keys), *starts, *longest)


def elsewhere(q: Heads, k: Heads, v: Heads, segments: tuple[Segment, ...], *, before: int, scale: float) -> Heads:
    """What each token reads of the `before` tokens in front of the row, of its context and of its own text."""
    layout = Ragged._make(part.to(q.device) if isinstance(part, Tensor) else part for part in ragged(segments, before))
    if q.dtype not in (torch.bfloat16, torch.float16):
        return explicit(q, k[layout.keys], v[layout.keys], layout, scale=scale)
    from torch.nn.attention.varlen import varlen_attn

    out: Any = varlen_attn(
        q,
        k[layout.keys],
        v[layout.keys],
        *layout[1:],
        scale=scale,
        window_size=(-1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return out  # type: ignore[no-any-return]


def explicit(q: Heads, k: Heads, v: Heads, layout: Ragged, *, scale: float) -> Heads:
    """The same by one table of scores a text: slow, for float32 and for tests."""
    out = []
    queries, keys = layout.query_starts.tolist(), layout.key_starts.tolist()
    for first, past, start, stop in zip(queries, queries[1:], keys, keys[1:], strict=False):
        asked, known = slice(first, past), slice(start, stop)
        rows = [x.transpose(0, 1)[None] for x in (q[asked], k[known], v[known])]
        length, seen = past - first, stop - start
        hidden = torch.ones(length, seen, dtype=torch.bool, device=q.device).triu(1 + seen - length)
        mask = torch.zeros(hidden.shape, device=q.device).masked_fill_(hidden, -torch.inf)
        group = q.shape[1] // k.shape[1]
        out.append(plain(rows[0], rows[1], rows[2], mask.repeat(group, 1), scale)[0][0].transpose(0, 1))
    return torch.cat(out)


def plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Attention by explicit scores, [row, heads, query, width] all, and its log-sum-exps, in float32 or wider.

    Keys may have fewer heads; the mask is added to scores [row, key heads, heads a key head x query, column].
    """
    grouped = q.reshape(q.shape[0], k.shape[1], -1, q.shape[3])
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    scores = grouped.to(wide) @ k.transpose(2, 3).to(wide) * scale
    if mask is not None:
        scores = scores + mask
    sums = scores.logsumexp(-1)
    out = (scores - sums[..., None]).exp().to(v.dtype) @ v
    return out.view(q.shape), sums.view(q.shape[:3])
