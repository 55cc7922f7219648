"""Attention over a packed row, segment by segment: no mask is made, and nothing is computed between texts.

A segment sees itself causally. One that has a context sees all of that too: both parts are computed apart and merged by
their log-sum-exps, and the gradient of each part is that of the merged result (as in ring attention, Liu et al. 2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cai_lightning.models.packing import Segment
from cai_lightning.models.varlen import elsewhere, plain

Heads = Float[Tensor, "token heads width"]

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Run(NamedTuple):
    """`rows` neighbouring segments of `length` tokens from `start`: one call for all of them."""

    start: int
    rows: int
    length: int


class Shared(NamedTuple):
    """Neighbouring segments from `start` to `stop` with one context: one call for all of them."""

    start: int
    stop: int
    context_start: int
    context_stop: int


class Plan(NamedTuple):
    """The calls that the segments of a row need."""

    runs: tuple[Run, ...]
    shared: tuple[Shared, ...]


@lru_cache(maxsize=64)
def plan(segments: tuple[Segment, ...]) -> Plan:
    """Neighbours of equal length in one run, neighbours of one context in one call."""
    runs: list[Run] = []
    shared: list[Shared] = []
    for start, stop, context_start, context_stop in segments:
        length, last = stop - start, runs[-1] if runs else None
        if last and last.length == length and last.start + last.rows * length == start:
            runs[-1] = last._replace(rows=last.rows + 1)
        else:
            runs.append(Run(start, 1, length))
        if context_stop > context_start:
            before = shared[-1] if shared else None
            if before and (before.stop, *before[2:]) == (start, context_start, context_stop):
                shared[-1] = before._replace(stop=stop)
            else:
                shared.append(Shared(start, stop, context_start, context_stop))
    return Plan(tuple(runs), tuple(shared))


def attend(q: Heads, k: Heads, v: Heads, segments: Sequence[Segment], *, scale: float) -> Heads:
    """What each token reads from those it sees; keys and values may have fewer heads than queries.

    One fused call a run of segments on a CPU, one call of variable-length attention elsewhere.
    """
    if q.device.type != "cpu":
        return elsewhere(q, k, v, tuple(segments), before=0, scale=scale)
    result: Tensor = _OnCPU.apply(q, k, v, plan(tuple(segments)), scale)  # type: ignore[no-untyped-call]
    return result


def attend_to(
    q: Heads, k: Heads, v: Heads, segments: Sequence[Segment], keys: Heads, values: Heads, *, scale: float
) -> Heads:
    """What each token of a row reads that also sees all of other keys and values, those of a common beginning.

    No gradient flows: for reading only.
    """
    if q.device.type != "cpu":
        return elsewhere(
            q, torch.cat([keys, k]), torch.cat([values, v]), tuple(segments), before=len(keys), scale=scale
        )
    out, sums = _read(q, k, v, plan(tuple(segments)), scale)
    return merge(out, sums, *attend_with_sums(q, keys, values, None, scale=scale))[0]


def attend_with_sums(
    q: Heads, keys: Tensor, values: Tensor, mask: Tensor | None, *, scale: float
) -> tuple[Heads, Tensor]:
    """What one token a row reads, and its log-sum-exps [row, heads] in float32.

    Keys and values are [row, heads, column, width] with an additive mask [row, 1, 1, column], or without a mask
    [token, heads, width], the same for all rows. No gradient flows.
    """
    shared = keys.dim() == 3
    if not shared and _in_products(q):
        scores = _scores(q, keys, mask, scale)
        sums = scores.logsumexp(-1)
        return _weighted((scores - sums[..., None]).exp_(), values, q), sums.view(q.shape[:2])
    queries = _rows(q, 1) if shared else q[:, :, None]
    if shared:
        keys, values = _rows(keys, 1), _rows(values, 1)
    if q.device.type == "cpu":
        out, sums = _flash(queries, keys, values, attn_mask=mask, scale=scale)
    else:
        out, sums = plain(queries, keys, values, mask, scale)
    if shared:
        return out[0].transpose(0, 1), sums[0].t()
    return out[:, :, 0], sums[:, :, 0]


def attend_alone(q: Heads, keys: Tensor, values: Tensor, mask: Tensor, *, scale: float) -> Heads:
    """As `attend_with_sums` of keys per row where nothing is to be merged: without the sums."""
    if _in_products(q):
        return _weighted(_scores(q, keys, mask, scale).softmax(-1), values, q)
    return attend_with_sums(q, keys, values, mask, scale=scale)[0]


def _in_products(q: Heads) -> bool:
    """Whether batched products are taken: for one query a row they take two thirds of a fused call's time on a CPU."""
    return q.device.type == "cpu" and q.dtype in (torch.float32, torch.float64)


def _scores(q: Heads, keys: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Of one query a row [row x heads of keys, heads of queries to each, column]."""
    rows, heads, columns, width = keys.shape
    asked = q.reshape(rows * heads, -1, width)  # neighbouring heads of queries share one of keys
    bias = q.new_zeros(1, 1, 1) if mask is None else mask.expand(rows, heads, 1, columns).reshape(-1, 1, columns)
    return torch.baddbmm(bias, asked, keys.reshape(-1, columns, width).transpose(1, 2), alpha=scale)


def _weighted(weights: Tensor, values: Tensor, q: Heads) -> Heads:
    return torch.bmm(weights, values.reshape(-1, *values.shape[2:])).view(q.shape)


def merge(out: Heads, sums: Tensor, other: Heads, other_sums: Tensor) -> tuple[Heads, Tensor]:
    """Attention over two sets of keys from that over each, and its log-sum-exps [token, heads] in float32.

    Source: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax".
    """
    total = torch.logaddexp(sums, other_sums)
    mine, theirs = (sums - total).exp()[..., None], (other_sums - total).exp()[..., None]
    return (out.to(total.dtype) * mine + other.to(total.dtype) * theirs).to(out.dtype), total


class _OnCPU(torch.autograd.Function):
    """One node a layer: slices of their own would each send back a gradient as long as the row."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, calls: Plan, scale: float) -> Tensor:
        out, sums = _read(q, k, v, calls, scale)
        ctx.save_for_backward(q, k, v, out, sums)
        ctx.calls, ctx.scale = calls, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        q, k, v, out, sums = ctx.saved_tensors
        given = gradients[0].to(out.dtype)
        dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype) for x in (q, k, v))
        for part, count in _runs(ctx.calls):
            rows = [_rows(x[part], count) for x in (given, q, k, v, out, sums)]
            pieces = _flash_backward(*rows, 0.0, True, scale=ctx.scale)
            for whole, piece in zip((dq, dk, dv), pieces, strict=True):
                _rows(whole[part], count).copy_(piece)
        for part, context in _contexts(ctx.calls):
            rows = [_rows(x, 1) for x in (given[part], q[part], k[context], v[context], out[part], sums[part])]
            pieces = _flash_backward(*rows, 0.0, False, scale=ctx.scale)
            for whole, at, piece in zip((dq, dk, dv), (part, context, context), pieces, strict=True):
                whole[at] += piece[0].transpose(0, 1)
        return dq, dk, dv, None, None


def _read(q: Heads, k: Heads, v: Heads, calls: Plan, scale: float) -> tuple[Heads, Tensor]:
    """What the tokens read and their log-sum-exps [token, heads]."""
    out = torch.empty(q.shape, dtype=q.dtype)
    sums = torch.empty(q.shape[:2], dtype=torch.float64 if q.dtype == torch.float64 else torch.float32)
    for part, count in _runs(calls):
        found, total = _flash(*(_rows(x[part], count) for x in (q, k, v)), is_causal=True, scale=scale)
        _rows(out[part], count).copy_(found)
        _rows(sums[part], count).copy_(total)
    for part, context in _contexts(calls):
        found, total = _flash(*(_rows(x, 1) for x in (q[part], k[context], v[context])), scale=scale)
        out[part], sums[part] = merge(out[part], sums[part], found[0].transpose(0, 1), total[0].t())
    return out, sums


def _runs(calls: Plan) -> Iterator[tuple[slice, int]]:
    return ((slice(start, start + rows * length), rows) for start, rows, length in calls.runs)


def _contexts(calls: Plan) -> Iterator[tuple[slice, slice]]:
    return ((slice(start, stop), slice(*context)) for start, stop, *context in calls.shared)


def _rows(x: Tensor, count: int) -> Tensor:
    """[count x length, heads, ...] as [count, heads, length, ...], a view."""
    rows: Tensor = x.view(count, -1, *x.shape[1:]).transpose(1, 2)
    return rows
