"""Weighted token rows for supervised training: one reply after its prompt, or any text with weights of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from cai_lightning.data.batching import BatchLoader, bucketed_loader
from cai_lightning.models.format import Format
from cai_lightning.models.logprobs import pad_rows
from cai_lightning.text.backends import Prompt


class SFTRow(NamedTuple):
    """A text as ids, and the loss weight of every one of them: 0 on what is only read."""

    ids: list[int]
    weights: list[float]


class SFTBatch(NamedTuple):
    """Right-padded ids and loss weights [row, token], what to divide the summed loss by, and the rows' numbers."""

    input_ids: Tensor
    weights: Tensor
    divisor: Tensor
    rows: Tensor


def sft_rows(
    examples: Sequence[tuple[Prompt, str]],
    format: Format,
    *,
    max_tokens: int,
    ended: Sequence[bool | None] | None = None,
) -> tuple[list[SFTRow], dict[str, int]]:
    """Rows of weight 1 on the reply and its end token, 0 on the prompt, and what happened to the examples.

    An example is (prompt, reply without leading space). A prompt that is too long loses its beginning ("prompt_cut",
    see `Format.fitted`); a reply is never cut: where it is too long the row is left out ("too_long"), and so are empty
    replies ("empty"). `ended` says which replies are learned with an end token (all, if not given), which without
    ("no_end"), and which, null, are left out ("unfinished").
    """
    prompts = format.prompt_ids([prompt for prompt, _ in examples])
    ends = list(ended or [True] * len(examples))
    replies = format.reply_ids([reply for _, reply in examples], ended=[end is not False for end in ends])
    rows: list[SFTRow] = []
    counts = Counter(kept=0, prompt_cut=0, too_long=0, empty=0, no_end=0, unfinished=0)
    for (asked, text), whole, reply, end in zip(examples, prompts, replies, ends, strict=True):
        found = format.fitted(asked, max_tokens - len(reply), inside=True, ids=whole)
        if found is None or not text.strip() or end is None:
            counts["empty" if not text.strip() else "unfinished" if end is None else "too_long"] += 1
            continue
        prompt, cut = found
        counts["kept"] += 1
        counts["prompt_cut"] += cut
        counts["no_end"] += not end
        rows.append(SFTRow(prompt + reply, [0.0] * len(prompt) + [1.0] * len(reply)))
    return rows, dict(counts)


class SFTData(LightningDataModule):  # type: ignore[misc]
    """Serves weighted rows in length-bucketed batches of at most `batch_tokens` padded tokens."""

    def __init__(
        self,
        train: Sequence[SFTRow],
        validation: Sequence[SFTRow],
        *,
        pad: int,
        batch_tokens: int,
        multiple: int,
        accumulate: int,
        seed: int,
    ) -> None:
        super().__init__()
        self._train = train
        self._validation = validation
        self._accumulate = accumulate
        self._collate = partial(collate_sft, pad=pad, multiple=multiple)
        self._loader = partial(bucketed_loader, batch_tokens=batch_tokens, multiple=multiple, seed=seed)

    def train_dataloader(self) -> BatchLoader[SFTBatch]:
        """The training batches; a divisor spans an accumulation window."""
        return self._batches(self._train, self._accumulate)

    def val_dataloader(self) -> list[BatchLoader[SFTBatch]]:
        """The validation batches, if there are such rows; a divisor spans one batch."""
        return [self._batches(self._validation, 1)] if self._validation else []

    def _batches(self, rows: Sequence[SFTRow], accumulate: int) -> BatchLoader[SFTBatch]:
        lengths = [len(row.ids) for row in rows]
        # The first token is never a target, so its weight is no part of the loss.
        mass = [sum(row.weights[1:]) for row in rows]
        return self._loader(lengths, mass, partial(self._collate, rows), accumulate=accumulate)


def collate_sft(rows: Sequence[SFTRow], chosen: list[int], divisor: float, *, pad: int, multiple: int) -> SFTBatch:
    """The batch of the rows numbered `chosen`, padded on the right to a multiple of `multiple` tokens."""
    input_ids = pad_rows([rows[i].ids for i in chosen], pad, multiple)
    weights = torch.zeros(input_ids.shape)
    for row, i in enumerate(chosen):
        weights[row, : len(rows[i].ids)] = torch.tensor(rows[i].weights)
    return SFTBatch(input_ids, weights, torch.tensor(divisor), torch.tensor(chosen))
