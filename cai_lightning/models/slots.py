"""Keys and values of prompts and of the replies that grow behind them, and attention that reads just these.

Prompts that begin alike keep that beginning once (`Prefix`). Rows that started together, with prompts of about one
length, share a block (`Cohort`): they grow in step, so a step's keys go into one column. Several replies to one prompt
may keep it once (`siblings.py`).
"""
# ruff: noqa: F722 - the quoted names are jaxtyping dimensions

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from cai_lightning.models.attention import states_of
from cai_lightning.models.packing import Packed, Segment
from cai_lightning.models.segments import attend, attend_alone, attend_to, attend_with_sums, merge

# Room is made in blocks of so many columns: attention over a whole block with its empty end masked is twice as fast on
# a CPU as over a strided slice of it.
BLOCK = 16


class Prefix:
    """The keys and values [token, heads, width] of a text's beginning, one pair a layer."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []


class Prefixes:
    """The beginnings that a model has read, each once while it is among the `room` used last; `read` counts passes."""

    def __init__(self, model: PreTrainedModel, *, room: int = 4) -> None:
        self._model = model
        self._room = room
        self._kept: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()
        self.read = 0

    def __call__(self, ids: tuple[int, ...]) -> Prefix:
        """The keys and values of these ids at the beginning of a text; of none, an empty one."""
        if not ids:
            return Prefix(0)
        if ids not in self._kept:
            self.read += 1
            self._kept[ids] = _read_prefix(self._model, ids, self._model.device)
        self._kept.move_to_end(ids)
        while len(self._kept) > self._room:
            self._kept.popitem(last=False)
        return self._kept[ids]


def _read_prefix(model: PreTrainedModel, ids: Sequence[int], device: torch.device) -> Prefix:
    prefix = Prefix(len(ids))
    whole = (Segment(0, len(ids), 0, 0),)

    def reader(_: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        prefix.keys.append(k.contiguous())
        prefix.values.append(v.contiguous())
        return attend(q, k, v, whole, scale=scale)

    states_of(model, torch.tensor(list(ids), device=device), torch.arange(len(ids), device=device), reader)
    return prefix


class Cohort:
    """Rows of keys and values [row, heads, column, width], right-aligned behind one prefix, one pair a layer.

    `pads` [row] are the columns that stand empty before a row's own tokens; `filled` columns are in use.
    """

    def __init__(self, prefix: Prefix, lengths: Sequence[int], device: torch.device) -> None:
        self.prefix = prefix
        self.filled = max(lengths)
        self.pads = torch.tensor([self.filled - length for length in lengths], device=device)
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self._mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pads)

    @property
    def positions(self) -> Tensor:
        """Where each row's next token stands in its text [row]."""
        return self.prefix.length + self.filled - self.pads

    def hold(self, starts: Tensor, k: Tensor, v: Tensor) -> None:
        """Takes the keys and values of one more layer: those [token, heads, width] of the rows' prompts, which begin
        at `starts` [row].
        """
        columns = torch.arange(self.filled, device=k.device) - self.pads[:, None]
        places = starts[:, None] + columns.clamp(min=0)
        room = -(-(self.filled + 1) // BLOCK) * BLOCK - self.filled
        for kept, new in ((self.keys, k), (self.values, v)):
            rows = new[places].transpose(1, 2)
            kept.append(torch.cat([rows, rows.new_zeros(*rows.shape[:2], room, rows.shape[3])], dim=2))

    def grow(self) -> None:
        """Makes room for one more column; to be called once a step, before its layers."""
        if self.keys[0].shape[2] == self.filled:
            for kept in (self.keys, self.values):
                for layer, block in enumerate(kept):
                    empty = block.new_zeros(*block.shape[:2], BLOCK, block.shape[3])
                    kept[layer] = torch.cat([block, empty], dim=2)
        columns = torch.arange(self.keys[0].shape[2], device=self.pads.device)
        hidden = (columns < self.pads[:, None]) | (columns > self.filled)
        self._mask = hiding(hidden, self.keys[0].dtype)[:, None, None]
        self.filled += 1

    def read(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
        """What the newest token of each row reads [row, heads, width]; its key and value are taken in."""
        return attend_alone(q, *self._take(layer, k, v), scale=scale)

    def read_with_sums(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> tuple[Tensor, Tensor]:
        """As `read`, and the log-sum-exps [row, heads] in float32."""
        return attend_with_sums(q, *self._take(layer, k, v), scale=scale)

    def _take(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Puts the newest column in its place; the rows' own keys, values and mask."""
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, self.filled - 1] = k
        values[:, :, self.filled - 1] = v
        assert self._mask is not None
        return keys, values, self._mask

    def keep(self, rows: Tensor) -> None:
        """Keeps only these rows."""
        self.pads = self.pads[rows]
        self.keys = [block.index_select(0, rows) for block in self.keys]
        self.values = [block.index_select(0, rows) for block in self.values]


class Rows(Protocol):
    """Rows that grow in step behind one prefix, and what they keep; `Cohort` says what is what."""

    prefix: Prefix

    def __len__(self) -> int: ...

    @property
    def positions(self) -> Tensor: ...

    def hold(self, starts: Tensor, k: Tensor, v: Tensor) -> None: ...

    def grow(self) -> None: ...

    def read(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor: ...

    def read_with_sums(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> tuple[Tensor, Tensor]: ...

    def keep(self, rows: Tensor) -> None: ...


def hiding(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores so that those of hidden columns weigh nothing."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, torch.finfo(dtype).min)


def read_prompts(
    model: PreTrainedModel, packs: Sequence[Packed], prefix: Prefix, cohorts: Sequence[tuple[Rows, Tensor]] = ()
) -> Float[Tensor, "token hidden"]:
    """The states of texts that go on from a prefix, pack by pack; each cohort keeps the keys and values of those that
    start at the places that stand beside it, counted through all packs.
    """
    states, kept = [], defaultdict[int, list[tuple[Tensor, Tensor]]](list)
    for packed in packs:

        def reader(
            layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, segments: tuple[Segment, ...] = packed.segments
        ) -> Tensor:
            if cohorts:
                kept[layer].append((k, v))
            if not prefix.length:
                return attend(q, k, v, segments, scale=scale)
            return attend_to(q, k, v, segments, prefix.keys[layer], prefix.values[layer], scale=scale)

        states.append(states_of(model, packed.ids, packed.positions + prefix.length, reader))
    for layer in sorted(kept):
        k, v = (torch.cat(parts) for parts in zip(*kept.pop(layer), strict=True))
        for cohort, starts in cohorts:
            cohort.hold(starts, k, v)
    return torch.cat(states)


def read_tokens(model: PreTrainedModel, ids: Tensor, cohorts: Sequence[Rows]) -> Float[Tensor, "row hidden"]:
    """The states of one new token a row, for the rows of all cohorts, one after the other."""
    # rows that have ended go on with their cohort, and may be past what the model reads
    last = getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 30) - 1
    positions = torch.cat([cohort.positions for cohort in cohorts]).clamp_(max=last)
    for cohort in cohorts:
        cohort.grow()
    groups = [list(group) for _, group in groupby(cohorts, key=lambda cohort: id(cohort.prefix))]

    def reader(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        parts: list[Tensor] = []
        last = 0
        for group in groups:
            first, prefix, own = last, group[0].prefix, []
            for cohort in group:
                rows = slice(last, last + len(cohort))
                newest = layer, q[rows], k[rows], v[rows]
                if prefix.length:
                    own.append(cohort.read_with_sums(*newest, scale=scale))
                else:
                    parts.append(cohort.read(*newest, scale=scale))
                last = rows.stop
            if prefix.length:
                seen = attend_with_sums(q[first:last], prefix.keys[layer], prefix.values[layer], None, scale=scale)
                out, sums = (torch.cat(found) for found in zip(*own, strict=True))
                parts.append(merge(out, sums, *seen)[0])
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    return states_of(model, ids, positions, reader)
