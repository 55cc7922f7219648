"""Weighted token rows for supervised training: one reply after its prompt, or any text with weights of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from cai_lightning.data.batching import BatchLoader, Plan
from cai_lightning.data.ragged import Ragged, id_type
from cai_lightning.models.format import Format
from cai_lightning.models.packing import Packed, Route, Tree, pack, places
from cai_lightning.text.backends import Prompt

TOGETHER = 1000  # examples that are encoded at once


class SFTRow(NamedTuple):
    """A text as ids, and the loss weight of every one of them: 0 on what is only read."""

    ids: Any
    weights: Any


class SFTRows(Sequence[SFTRow]):
    """Rows that lie in files."""

    def __init__(self, vocabulary: int, *, folder: Path | None = None) -> None:
        self._ids = Ragged(id_type(vocabulary), folder=folder)
        self._weights = Ragged(np.float32, folder=folder)

    def append(self, row: SFTRow) -> None:
        """Adds one row."""
        self._ids.append(row.ids)
        self._weights.append(row.weights)

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, number: int) -> SFTRow: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[SFTRow]: ...
    def __getitem__(self, number: int | slice) -> SFTRow | Sequence[SFTRow]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        return SFTRow(self._ids[number], self._weights[number])


class SFTBatch(NamedTuple):
    """Packed texts; the places of the tokens that are learned, and their weights; what to divide the summed loss by;
    the rows' numbers.
    """

    packed: Packed
    targets: Tensor
    weights: Tensor
    divisor: Tensor
    rows: Tensor


def sft_rows(
    examples: Iterable[tuple[Prompt, str]],
    format: Format,
    *,
    max_tokens: int,
    ended: Iterable[bool | None] | None = None,
    folder: Path | None = None,
) -> tuple[SFTRows, dict[str, int]]:
    """Rows of weight 1 on the reply and its end token, 0 on the prompt, and what happened to the examples.

    An example is (prompt, reply without leading space). A prompt that is too long loses its beginning ("prompt_cut",
    see `Format.fitted`); a reply is never cut: where it is too long the row is left out ("too_long"), and so are empty
    replies ("empty"). `ended` says which replies are learned with an end token (all, if not given), which without
    ("no_end"), and which, null, are left out ("unfinished"); one for each example. The rows lie in a file in `folder`,
    and of the examples a thousand at a time are in memory.
    """
    given, ends = iter(examples), repeat(True) if ended is None else iter(ended)
    rows = SFTRows(len(format.tokenizer), folder=folder)
    counts = Counter(kept=0, prompt_cut=0, too_long=0, empty=0, no_end=0, unfinished=0)
    while part := list(islice(given, TOGETHER)):
        end_of = list(islice(ends, len(part)))
        prompts = format.prompt_ids([prompt for prompt, _ in part])
        replies = format.reply_ids([reply for _, reply in part], ended=[end is not False for end in end_of])
        for (asked, text), whole, reply, end in zip(part, prompts, replies, end_of, strict=True):
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
    """Serves weighted rows in packed batches of at most `batch_tokens` tokens, as `plan` divides them."""

    def __init__(
        self,
        train: Sequence[SFTRow],
        validation: Sequence[SFTRow],
        *,
        plan: Plan,
        batch_tokens: int,
        accumulate: int,
        route: Route,
        seed: int,
    ) -> None:
        super().__init__()
        self._train = train
        self._validation = validation
        self._accumulate = accumulate
        self._route: Route = route
        self._plan = partial(plan, batch_tokens=batch_tokens, seed=seed)

    def train_dataloader(self) -> BatchLoader[SFTBatch]:
        """The training batches; a divisor spans an accumulation window."""
        return self._batches(self._train, self._accumulate)

    def val_dataloader(self) -> list[BatchLoader[SFTBatch]]:
        """The validation batches, if there are such rows; a divisor spans one batch."""
        return [self._batches(self._validation, 1)] if self._validation else []

    def _batches(self, rows: Sequence[SFTRow], accumulate: int) -> BatchLoader[SFTBatch]:
        lengths = [len(row.ids) for row in rows]
        # The first token is never a target, so its weight is no part of the loss.
        mass = [float(sum(row.weights[1:])) for row in rows]
        collate = partial(collate_sft, rows, route=self._route)
        return BatchLoader(lambda epoch: self._plan(lengths, epoch=epoch), collate, mass, accumulate=accumulate)


def collate_sft(rows: Sequence[SFTRow], chosen: list[int], divisor: float, *, route: Route) -> SFTBatch:
    """The batch of the rows numbered `chosen`, in this order."""
    picked = [rows[number] for number in chosen]
    packed = pack([Tree((), (row.ids,)) for row in picked], route=route)
    weights = torch.zeros(len(packed.ids))
    weights[places(packed)] = torch.cat([torch.tensor(row.weights, dtype=torch.float32) for row in picked])
    targets = ((weights > 0) & (packed.previous >= 0)).nonzero()[:, 0]
    return SFTBatch(packed, targets, weights[targets], torch.tensor(divisor), torch.tensor(chosen))
