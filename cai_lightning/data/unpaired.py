"""Replies rated alone as token rows: from ratings, or labels taken apart, to packed batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, overload

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from cai_lightning.data.batching import BatchLoader, Plan
from cai_lightning.data.mismatched import Mismatched, mismatched
from cai_lightning.data.ragged import Ragged, id_type
from cai_lightning.models.format import Format
from cai_lightning.models.packing import Packed, Route, Tree, pack
from cai_lightning.text.backends import Prompt
from cai_lightning.text.dialogue import Dialogue
from cai_lightning.text.records import Label, Rating

TOGETHER = 1000  # ratings that are encoded at once


class UnpairedRow(NamedTuple):
    """A prompt and a reply as ids, and P(the reply is desirable); `id` is the rating's."""

    id: str
    prompt: Any
    reply: Any
    p_desirable: float
    weight: float


class UnpairedRows(Sequence[UnpairedRow]):
    """Rows whose tokens lie in a file."""

    def __init__(self, vocabulary: int, *, folder: Path | None = None) -> None:
        self._ids = Ragged(id_type(vocabulary), folder=folder)
        self._rest: list[tuple[str, float, float]] = []

    def append(self, row: UnpairedRow) -> None:
        """Adds one row."""
        self._ids.extend((row.prompt, row.reply))
        self._rest.append((row.id, row.p_desirable, row.weight))

    def __len__(self) -> int:
        return len(self._rest)

    @overload
    def __getitem__(self, number: int) -> UnpairedRow: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[UnpairedRow]: ...
    def __getitem__(self, number: int | slice) -> UnpairedRow | Sequence[UnpairedRow]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        id, p_desirable, weight = self._rest[number]
        prompt, reply = self._ids[2 * number : 2 * number + 2]
        return UnpairedRow(id, prompt, reply, p_desirable, weight)


class UnpairedBatch(NamedTuple):
    """B texts packed, a branch each. `divisor` is what the weighted sum over texts is to be divided by, `rows` the
    texts' numbers in the data.

    The first batch of a step has `mismatched` texts for all of this process's batches of the step, the others None.
    """

    packed: Packed
    p_desirable: Tensor
    weight: Tensor
    divisor: Tensor
    rows: Tensor
    mismatched: tuple[Mismatched, ...] | None = None


def taken_apart(labels: Sequence[Label]) -> list[Rating]:
    """Two ratings a label: its likelier reply is desirable by p_chosen, the other one by 1 - p_chosen.

    Labels of two equal replies say nothing and give none. A label's margin is not read.
    """
    return [
        Rating(
            id=f"{label.id}.{side}",
            prompt=label.prompt,
            text=text,
            p_desirable=p_desirable,
            source=label.source,
            weight=label.weight,
            ended=ended,
        )
        for label in labels
        if label.a != label.b
        for side, text, p_desirable, ended in zip(
            "ab", (label.a, label.b), (label.p_a, 1 - label.p_a), label.ended, strict=True
        )
    ]


def unpaired_rows(
    ratings: Sequence[Rating],
    format: Format,
    *,
    asked: Callable[[Dialogue], Prompt],
    max_tokens: int,
    folder: Path | None = None,
) -> tuple[UnpairedRows, dict[str, int]]:
    """Token rows of the ratings, and what happened to them.

    `asked` is the dialogue as a prompt: itself, or what a reward model reads for it. Ratings of weight 0 are left out
    ("weightless"). A prompt that is too long loses its beginning ("prompt_cut", see `Format.fitted`), and where the
    reply alone is too long the row is left out ("too_long"). A reply that has not ended is learned without end token
    ("no_end"). The tokens lie in a file in `folder`.
    """
    rows = UnpairedRows(len(format.tokenizer), folder=folder)
    counts = Counter(kept=0, prompt_cut=0, too_long=0, weightless=0, no_end=0)
    for first in range(0, len(ratings), TOGETHER):
        part = ratings[first : first + TOGETHER]
        prompts = [asked(rating.prompt.dialogue) for rating in part]
        replies = format.reply_ids([rating.text for rating in part], ended=[rating.ended for rating in part])
        for rating, whole, ids, reply in zip(part, prompts, format.prompt_ids(prompts), replies, strict=True):
            found = format.fitted(whole, max_tokens - len(reply), inside=True, ids=ids)
            if rating.weight <= 0 or found is None:
                counts["weightless" if rating.weight <= 0 else "too_long"] += 1
                continue
            prompt, cut = found
            counts["kept"] += 1
            counts["prompt_cut"] += cut
            counts["no_end"] += not rating.ended
            rows.append(UnpairedRow(rating.id, prompt, reply, rating.p_desirable, rating.weight))
    return rows, dict(counts)


class UnpairedData(LightningDataModule):  # type: ignore[misc]
    """Serves rated replies in packed batches of at most `batch_tokens` tokens, as `plan` divides them.

    With `kl` the first batch of each step has the texts that KTO's KL is read from.
    """

    def __init__(
        self,
        train: Sequence[UnpairedRow],
        validation: Sequence[UnpairedRow],
        *,
        plan: Plan,
        batch_tokens: int,
        accumulate: int,
        route: Route,
        kl: bool,
        seed: int,
    ) -> None:
        super().__init__()
        self._train = train
        self._validation = validation
        self._accumulate = accumulate
        self._route: Route = route
        self._kl = kl
        self._plan = partial(plan, batch_tokens=batch_tokens, seed=seed)

    def train_dataloader(self) -> BatchLoader[UnpairedBatch]:
        """The training batches; a divisor spans an accumulation window."""
        return self._batches(self._train, self._accumulate)

    def val_dataloader(self) -> list[BatchLoader[UnpairedBatch]]:
        """The validation batches, if there are such rows; a divisor spans one batch."""
        return [self._batches(self._validation, 1)] if self._validation else []

    def _batches(self, rows: Sequence[UnpairedRow], accumulate: int) -> BatchLoader[UnpairedBatch]:
        lengths = [len(row.prompt) + len(row.reply) for row in rows]
        mass = [row.weight for row in rows]
        collate = partial(collate_unpaired, rows, route=self._route)
        plan = lambda epoch: self._plan(lengths, epoch=epoch)  # noqa: E731
        if not self._kl:
            return BatchLoader(plan, collate, mass, accumulate=accumulate)
        ahead = partial(mismatched, rows, longest=max(lengths, default=0), route=self._route)
        return StepLoader(plan, collate, mass, accumulate=accumulate, ahead=ahead)


class StepLoader(BatchLoader[UnpairedBatch]):
    """A loader whose first batch of each step has what all of the step's KL is read from.

    `ahead(step, mine)` makes it of the step's batches and the numbers of those that are this process's.
    """

    def __init__(
        self,
        plan: Callable[[int], list[list[int]]],
        collate: Callable[[list[int], float], UnpairedBatch],
        mass: Sequence[float],
        *,
        accumulate: int,
        ahead: Callable[[list[list[int]], list[int]], tuple[Mismatched, ...]],
    ) -> None:
        super().__init__(plan, collate, mass, accumulate=accumulate)
        self._ahead = ahead

    def _made(self, batches: list[list[int]], number: int) -> UnpairedBatch:
        batch = super()._made(batches, number)
        if number % self._accumulate:
            return batch
        rounds = range(min(self._accumulate, len(self) - number))
        mine = [each * self._processes + self._rank for each in rounds]
        return batch._replace(mismatched=self._ahead(self._step(batches, number), mine))


def collate_unpaired(rows: Sequence[UnpairedRow], chosen: list[int], divisor: float, *, route: Route) -> UnpairedBatch:
    """The batch of the rows numbered `chosen`, in this order, without mismatched texts."""
    picked = [rows[number] for number in chosen]
    return UnpairedBatch(
        packed=pack([Tree(row.prompt, (row.reply,)) for row in picked], route=route),
        p_desirable=torch.tensor([row.p_desirable for row in picked]),
        weight=torch.tensor([row.weight for row in picked]),
        divisor=torch.tensor(divisor),
        rows=torch.tensor(chosen),
    )
