"""Keys and values of several replies to each of some prompts: a prompt's stand there once for all of its replies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cai_lightning.models.slots import BLOCK, Prefix, hiding


class Siblings:
    """Rows that are `samples` replies to each of some prompts behind one prefix; a stand-in for `Cohort`.

    Of each layer there are the keys and values of prompts [prompt, heads, column, width], left-aligned, and those of
    replies [prompt, heads, sample, column, width]. Rows stand prompt by prompt. Once some have left, a prompt with
    fewer replies than another has empty samples, which are read and thrown away.
    """

    def __init__(self, prefix: Prefix, lengths: Sequence[int], samples: int, device: torch.device) -> None:
        self.prefix = prefix
        self.drawn = 0
        self._lengths = torch.tensor(list(lengths), device=device)
        self._longest = max(lengths)
        self._own = torch.arange(len(lengths), device=device).repeat_interleave(samples)  # the prompt of each row
        self._grid = torch.arange(len(self._own), device=device).view(-1, samples)  # the row of each sample
        self._places: Tensor | None = None  # of rows among the samples, where these are not one and the same
        self._prompt_keys: list[Tensor] = []
        self._prompt_values: list[Tensor] = []
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._own)

    @property
    def positions(self) -> Tensor:
        """Where each row's next token stands in its text [row]."""
        return self.prefix.length + self._lengths[self._own] + self.drawn

    @property
    def columns(self) -> int:
        """The columns of keys that are kept in one layer."""
        return len(self._lengths) * self._longest + self._grid.numel() * self._keys[0].shape[3]

    def hold(self, starts: Tensor, k: Tensor, v: Tensor) -> None:
        """Takes the keys and values of one more layer: those [token, heads, width] of the prompts, which begin at
        `starts` [prompt].
        """
        columns = torch.arange(self._longest, device=k.device)
        places = starts[:, None] + torch.minimum(columns, self._lengths[:, None] - 1)
        for prompts, replies, new in ((self._prompt_keys, self._keys, k), (self._prompt_values, self._values, v)):
            prompts.append(new[places].transpose(1, 2).contiguous())
            heads, width = new.shape[1:]
            replies.append(new.new_zeros(len(starts), heads, self._grid.shape[1], BLOCK, width))

    def grow(self) -> None:
        """Makes room for one more column; to be called once a step, before its layers."""
        room = self._keys[0].shape[3]
        if room == self.drawn:
            for kept in (self._keys, self._values):
                for layer, block in enumerate(kept):
                    kept[layer] = torch.cat([block, block.new_zeros(*block.shape[:3], BLOCK, block.shape[4])], dim=3)
            room += BLOCK
        keys = self._prompt_keys[0]
        columns = torch.arange(self._longest, device=keys.device)
        hidden = (columns >= self._lengths[:, None]).repeat_interleave(keys.shape[1], dim=0)
        self._prompt_mask = hiding(hidden, keys.dtype)[:, None]
        self._mask = hiding(torch.arange(room, device=keys.device) > self.drawn, keys.dtype)
        self.drawn += 1

    def read(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
        """What the newest token of each row reads [row, heads, width]; its key and value are taken in."""
        scores, values = self._scores(layer, q, k, v, scale)
        return self._weighted(layer, scores.softmax(-1).to(values.dtype), q)

    def read_with_sums(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> tuple[Tensor, Tensor]:
        """As `read`, and the log-sum-exps [row, heads] in float32."""
        scores, values = self._scores(layer, q, k, v, scale)
        sums = scores.logsumexp(-1)
        out = self._weighted(layer, (scores - sums[..., None]).exp_().to(values.dtype), q)
        return out, self._rows(sums, q.shape[:2])

    def keep(self, rows: Tensor) -> None:
        """Keeps only these rows, which ascend."""
        owners, counts = torch.unique_consecutive(self._own[rows], return_counts=True)
        before = self._flat[rows] % self._grid.shape[1]  # the sample that each row was
        self._own = torch.arange(len(owners), device=rows.device).repeat_interleave(counts)
        number = torch.arange(len(rows), device=rows.device)
        sample = number - (counts.cumsum(0) - counts)[self._own]
        self._grid = number.new_zeros(len(owners), int(counts.max()))
        self._grid[self._own, sample] = number
        source = torch.zeros_like(self._grid)
        source[self._own, sample] = before
        for kept in (self._keys, self._values):
            for layer, block in enumerate(kept):
                kept[layer] = block[owners[:, None], :, source].transpose(1, 2).contiguous()
        if len(owners) < len(self._lengths):
            self._lengths = self._lengths[owners]
            self._prompt_keys = [block.index_select(0, owners) for block in self._prompt_keys]
            self._prompt_values = [block.index_select(0, owners) for block in self._prompt_values]
        full = self._grid.numel() == len(rows)
        self._places = None if full else self._own * self._grid.shape[1] + sample

    @property
    def _flat(self) -> Tensor:
        """The place of each row among the samples of all prompts."""
        return torch.arange(len(self._own), device=self._own.device) if self._places is None else self._places

    def _scores(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Float32 scores, or better, [prompt x heads of keys, sample x heads of queries to each, column]."""
        keys, prompts = self._keys[layer], self._prompt_keys[layer]
        for block, new in ((keys, k), (self._values[layer], v)):
            block[:, :, :, self.drawn - 1] = self._samples(new).transpose(1, 2)
        heads, samples, room, width = keys.shape[1:]
        asked = self._samples(q).reshape(len(keys), samples, heads, -1, width).transpose(1, 2)
        asked = asked.reshape(len(keys) * heads, -1, width)
        far = torch.baddbmm(self._prompt_mask, asked, prompts.flatten(0, 1).transpose(1, 2), alpha=scale)
        each = asked.reshape(len(asked) * samples, -1, width)
        near = torch.baddbmm(self._mask, each, keys.view(-1, room, width).transpose(1, 2), alpha=scale)
        scores = torch.cat([far, near.view(*far.shape[:2], room)], dim=-1)
        return scores if scores.dtype.itemsize >= 4 else scores.float(), self._values[layer]

    def _weighted(self, layer: int, weights: Tensor, q: Tensor) -> Tensor:
        values, prompts = self._values[layer], self._prompt_values[layer]
        samples, room, width = values.shape[2:]
        out = torch.bmm(weights[..., : self._longest], prompts.flatten(0, 1))
        near = weights[..., self._longest :].reshape(len(out) * samples, -1, room)
        out = torch.baddbmm(out.view(len(near), -1, width), near, values.view(-1, room, width))
        return self._rows(out, q.shape)

    def _samples(self, x: Tensor) -> Tensor:
        """What there is of rows [row, ...] as [prompt, sample, ...]."""
        return x.view(*self._grid.shape, *x.shape[1:]) if self._places is None else x[self._grid]

    def _rows(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """What there is of samples [prompt x heads of keys x sample x heads of queries to each, ...] by row."""
        heads = self._keys[0].shape[1]
        every = x.reshape(*self._grid.shape[:1], heads, self._grid.shape[1], -1, *shape[2:]).transpose(1, 2)
        every = every.reshape(self._grid.numel(), *shape[1:])
        return every if self._places is None else every[self._places]
