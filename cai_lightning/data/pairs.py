"""Preference pairs as token rows: from labels (and reference log-probabilities) to stacked batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, overload

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from transformers import PreTrainedModel

from cai_lightning.data.batching import BatchLoader, Plan
from cai_lightning.data.ragged import Ragged, id_type
from cai_lightning.models.causal import evaluating
from cai_lightning.models.format import Format
from cai_lightning.models.logprobs import branch_logprobs
from cai_lightning.models.packing import Packed, Route, Tree, pack
from cai_lightning.text.backends import Prompt
from cai_lightning.text.dialogue import Dialogue
from cai_lightning.text.records import Label, Reference

TOGETHER = 1000  # labels that are encoded at once


class PairRow(NamedTuple):
    """A prompt and its two replies as ids; `id` is the label's. The references are summed log-probabilities in nats.

    `margin`, in nats, is what the label asks for; `source` is its source's number.
    """

    id: str
    prompt: Any
    chosen: Any
    rejected: Any
    p_chosen: float
    weight: float
    reference_chosen: float | None
    reference_rejected: float | None
    margin: float = 0.0
    source: int = 0


class PairRows(Sequence[PairRow]):
    """Rows whose tokens lie in a file; `sources` are the names of the sources that they number."""

    def __init__(self, vocabulary: int, *, folder: Path | None = None, sources: Sequence[str] = ()) -> None:
        self.sources = tuple(sources)
        self._ids = Ragged(id_type(vocabulary), folder=folder)
        self._rest: list[tuple[str, float, float, float | None, float | None, float, int]] = []

    def append(self, row: PairRow) -> None:
        """Adds one row."""
        self._ids.extend((row.prompt, row.chosen, row.rejected))
        self._rest.append((row.id, *row[4:]))

    def __len__(self) -> int:
        return len(self._rest)

    @overload
    def __getitem__(self, number: int) -> PairRow: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[PairRow]: ...
    def __getitem__(self, number: int | slice) -> PairRow | Sequence[PairRow]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        rest = self._rest[number]
        prompt, chosen, rejected = self._ids[3 * number : 3 * number + 3]
        return PairRow(rest[0], prompt, chosen, rejected, *rest[1:])


class PairBatch(NamedTuple):
    """B pairs packed: branch 2i is the chosen reply of pair i, branch 2i + 1 the rejected one.

    `margin` is in nats, `source` the number of a label's source. `divisor` is what the weighted sum over pairs is to be
    divided by, `rows` the pairs' numbers in the data.
    """

    packed: Packed
    p_chosen: Tensor
    weight: Tensor
    reference_chosen: Tensor | None
    reference_rejected: Tensor | None
    margin: Tensor
    source: Tensor
    divisor: Tensor
    rows: Tensor


def pair_rows(
    labels: Sequence[Label],
    references: Mapping[str, Reference] | None,
    format: Format,
    *,
    asked: Callable[[Dialogue], Prompt],
    max_tokens: int,
    folder: Path | None = None,
) -> tuple[PairRows, dict[str, int]]:
    """Token rows of the labels, the likelier reply as `chosen`, and what happened to the labels.

    `asked` is the dialogue as a prompt: itself, or what a reward model reads for it. Equal replies say nothing and
    are left out ("identical"), and so are labels of weight 0 ("weightless"). Both replies share one prompt; where it is
    too long it loses its beginning ("prompt_cut", see `Format.fitted`), and where a reply alone is too long the pair is
    left out ("too_long"). A reply that the label says has not ended is learned without end token; "no_end" counts
    pairs with such a one. Sources are numbered as they first appear. The tokens lie in a file in `folder`. Raises
    ValueError where a label has no reference.
    """
    sources = list(dict.fromkeys(label.source for label in labels))
    rows = PairRows(len(format.tokenizer), folder=folder, sources=sources)
    counts = Counter(kept=0, prompt_cut=0, too_long=0, identical=0, weightless=0, no_end=0)
    for first in range(0, len(labels), TOGETHER):
        part = labels[first : first + TOGETHER]
        prompts = [asked(label.prompt.dialogue) for label in part]
        replies = format.reply_ids(
            [reply for label in part for reply in (label.a, label.b)],
            ended=[end for label in part for end in label.ended],
        )
        encoded = zip(part, prompts, format.prompt_ids(prompts), replies[::2], replies[1::2], strict=True)
        for label, whole, ids, a, b in encoded:
            found = format.fitted(whole, max_tokens - max(len(a), len(b)), inside=True, ids=ids)
            same = label.a == label.b or a == b
            if label.weight <= 0 or same or found is None:
                reason = "weightless" if label.weight <= 0 else "identical" if same else "too_long"
                counts[reason] += 1
                continue
            prompt, cut = found
            counts["kept"] += 1
            counts["prompt_cut"] += cut
            counts["no_end"] += label.ended != (True, True)
            rows.append(_row(label, prompt, a, b, _reference(label, references), sources.index(label.source)))
    return rows, dict(counts)


def as_asked(dialogue: Dialogue) -> Prompt:
    """The dialogue itself, to be written in the policy's own format."""
    return dialogue


def _reference(label: Label, references: Mapping[str, Reference] | None) -> tuple[float | None, float | None]:
    if references is None:
        return None, None
    if label.id not in references:
        raise ValueError(f"label {label.id!r} has no reference log-probabilities: rebuild the reference stage from it")
    return references[label.id].logp_a, references[label.id].logp_b


def _row(
    label: Label,
    prompt: list[int],
    a: list[int],
    b: list[int],
    reference: tuple[float | None, float | None],
    source: int,
) -> PairRow:
    a_chosen = label.p_a >= 0.5
    chosen, rejected = (a, b) if a_chosen else (b, a)
    reference_chosen, reference_rejected = reference if a_chosen else reference[::-1]
    return PairRow(
        id=label.id,
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        p_chosen=label.p_a if a_chosen else 1 - label.p_a,
        weight=label.weight,
        reference_chosen=reference_chosen,
        reference_rejected=reference_rejected,
        margin=label.margin,
        source=source,
    )


class PairData(LightningDataModule):  # type: ignore[misc]
    """Serves pairs in packed batches of at most `batch_tokens` tokens, as `plan` divides them.

    Prompts of at least `share` tokens stand once for both replies of a pair; 0 repeats all of them.
    """

    def __init__(
        self,
        train: Sequence[PairRow],
        validation: Sequence[PairRow],
        *,
        plan: Plan,
        batch_tokens: int,
        accumulate: int,
        share: int,
        route: Route,
        seed: int,
    ) -> None:
        super().__init__()
        self._train = train
        self._validation = validation
        self._accumulate = accumulate
        self._share = share
        self._route: Route = route
        self._plan = partial(plan, batch_tokens=batch_tokens, seed=seed)

    def train_dataloader(self) -> BatchLoader[PairBatch]:
        """The training batches; a divisor spans an accumulation window."""
        return self._batches(self._train, self._accumulate)

    def val_dataloader(self) -> list[BatchLoader[PairBatch]]:
        """The validation batches, if there are such rows; a divisor spans one batch."""
        return [self._batches(self._validation, 1)] if self._validation else []

    def _batches(self, rows: Sequence[PairRow], accumulate: int) -> BatchLoader[PairBatch]:
        lengths = pair_lengths(rows, share=self._share)
        mass = [row.weight for row in rows]
        collate = partial(collate_pairs, rows, share=self._share, route=self._route)
        return BatchLoader(lambda epoch: self._plan(lengths, epoch=epoch), collate, mass, accumulate=accumulate)


def pair_lengths(rows: Sequence[PairRow], *, share: int) -> list[int]:
    """The tokens of each pair: those of its prompt once where it is shared, else twice."""
    return [(1 if _shared(row, share) else 2) * len(row.prompt) + len(row.chosen) + len(row.rejected) for row in rows]


def _shared(row: PairRow, share: int) -> bool:
    return 0 < share <= len(row.prompt)


def collate_pairs(rows: Sequence[PairRow], chosen: list[int], divisor: float, *, share: int, route: Route) -> PairBatch:
    """The batch of the pairs numbered `chosen`, in this order."""
    pairs = [rows[number] for number in chosen]
    trees = []
    for pair in pairs:
        replies = (pair.chosen, pair.rejected)
        parts = [replies] if _shared(pair, share) else [(reply,) for reply in replies]
        trees += [Tree(pair.prompt, part) for part in parts]
    return PairBatch(
        packed=pack(trees, route=route),
        p_chosen=torch.tensor([pair.p_chosen for pair in pairs]),
        weight=torch.tensor([pair.weight for pair in pairs]),
        reference_chosen=_column([pair.reference_chosen for pair in pairs]),
        reference_rejected=_column([pair.reference_rejected for pair in pairs]),
        margin=torch.tensor([pair.margin for pair in pairs]),
        source=torch.tensor([pair.source for pair in pairs]),
        divisor=torch.tensor(divisor),
        rows=torch.tensor(chosen),
    )


def _column(values: list[float | None]) -> Tensor | None:
    known = [value for value in values if value is not None]
    return torch.tensor(known) if len(known) == len(values) else None


@torch.inference_mode()
def reference_rows(
    model: PreTrainedModel,
    labels: Sequence[Label],
    format: Format,
    *,
    max_tokens: int,
    plan: Plan,
    batch_tokens: int,
    share: int,
    route: Route,
) -> tuple[list[Reference], dict[str, int]]:
    """Both replies' log-probabilities, end token included, of every label that `pair_rows` keeps; and its counts."""
    rows, counts = pair_rows(labels, None, format, asked=as_asked, max_tokens=max_tokens)
    batches = plan(pair_lengths(rows, share=share), batch_tokens=batch_tokens, seed=0, epoch=0)
    logps: dict[str, tuple[float, float]] = {}
    with evaluating(model):
        for numbers in batches:
            packed = collate_pairs(rows, numbers, 1.0, share=share, route=route).packed.to(model.device)
            values = branch_logprobs(model, packed, temperature=1.0).tolist()
            pairs = zip(values[::2], values[1::2], strict=True)
            logps.update(zip((rows[number].id for number in numbers), pairs, strict=True))
    kept = [(label, logps[label.id]) for label in labels if label.id in logps]
    return [
        Reference(id=label.id, logp_a=pair[label.p_a < 0.5], logp_b=pair[label.p_a >= 0.5]) for label, pair in kept
    ], counts
