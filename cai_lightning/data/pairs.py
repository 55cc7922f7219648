"""Preference pairs as token rows: from labels (and reference log-probabilities) to stacked batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from transformers import PreTrainedModel

from cai_lightning.data.batching import BatchLoader, bucketed_loader, length_buckets
from cai_lightning.models.causal import evaluating, pad_id
from cai_lightning.models.format import Format
from cai_lightning.models.logprobs import pad_rows, response_logprobs
from cai_lightning.text.backends import Prompt
from cai_lightning.text.dialogue import Dialogue
from cai_lightning.text.records import Label, Reference


class PairRow(NamedTuple):
    """Prompt and reply as ids, twice; `id` is the label's. The references are summed log-probabilities in nats."""

    id: str
    chosen_ids: list[int]
    rejected_ids: list[int]
    prompt_tokens: int
    p_chosen: float
    weight: float
    reference_chosen: float | None
    reference_rejected: float | None


class PairBatch(NamedTuple):
    """B pairs as 2B right-padded rows, the chosen ones first; `mask` marks reply tokens.

    `divisor` is what the weighted sum over pairs is to be divided by, `rows` the pairs' numbers in the data.
    """

    input_ids: Tensor
    mask: Tensor
    p_chosen: Tensor
    weight: Tensor
    reference_chosen: Tensor | None
    reference_rejected: Tensor | None
    divisor: Tensor
    rows: Tensor


def pair_rows(
    labels: Sequence[Label],
    references: Mapping[str, Reference] | None,
    format: Format,
    *,
    asked: Callable[[Dialogue], Prompt],
    max_tokens: int,
) -> tuple[list[PairRow], dict[str, int]]:
    """Token rows of the labels, the likelier reply as `chosen`, and what happened to the labels.

    `asked` is the dialogue as a prompt: itself, or what a reward model reads for it. Equal replies say nothing and
    are left out ("identical"), and so are labels of weight 0 ("weightless"). Both replies share one prompt; where it is
    too long it loses its beginning ("prompt_cut", see `Format.fitted`), and where a reply alone is too long the pair is
    left out ("too_long"). A reply that the label says has not ended is learned without end token; "no_end" counts
    pairs with such a one. Raises ValueError where a label has no reference.
    """
    prompts = [asked(label.prompt.dialogue) for label in labels]
    replies = format.reply_ids(
        [reply for label in labels for reply in (label.a, label.b)],
        ended=[end for label in labels for end in label.ended],
    )
    rows: list[PairRow] = []
    counts = Counter(kept=0, prompt_cut=0, too_long=0, identical=0, weightless=0, no_end=0)
    encoded = zip(labels, prompts, format.prompt_ids(prompts), replies[::2], replies[1::2], strict=True)
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
        rows.append(_row(label, prompt, a, b, _reference(label, references)))
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
) -> PairRow:
    a_chosen = label.p_a >= 0.5
    chosen, rejected = (a, b) if a_chosen else (b, a)
    reference_chosen, reference_rejected = reference if a_chosen else reference[::-1]
    return PairRow(
        id=label.id,
        chosen_ids=prompt + chosen,
        rejected_ids=prompt + rejected,
        prompt_tokens=len(prompt),
        p_chosen=label.p_a if a_chosen else 1 - label.p_a,
        weight=label.weight,
        reference_chosen=reference_chosen,
        reference_rejected=reference_rejected,
    )


class PairData(LightningDataModule):  # type: ignore[misc]
    """Serves pairs in length-bucketed batches; both replies of a pair count towards `batch_tokens`."""

    def __init__(
        self,
        train: Sequence[PairRow],
        validation: Sequence[PairRow],
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
        self._collate = partial(collate_pairs, pad=pad, multiple=multiple)
        self._loader = partial(bucketed_loader, batch_tokens=batch_tokens // 2, multiple=multiple, seed=seed)

    def train_dataloader(self) -> BatchLoader[PairBatch]:
        """The training batches; a divisor spans an accumulation window."""
        return self._batches(self._train, self._accumulate)

    def val_dataloader(self) -> list[BatchLoader[PairBatch]]:
        """The validation batches, if there are such rows; a divisor spans one batch."""
        return [self._batches(self._validation, 1)] if self._validation else []

    def _batches(self, rows: Sequence[PairRow], accumulate: int) -> BatchLoader[PairBatch]:
        lengths = [max(len(row.chosen_ids), len(row.rejected_ids)) for row in rows]
        mass = [row.weight for row in rows]
        return self._loader(lengths, mass, partial(self._collate, rows), accumulate=accumulate)


def collate_pairs(rows: Sequence[PairRow], chosen: list[int], divisor: float, *, pad: int, multiple: int) -> PairBatch:
    """The batch of the pairs numbered `chosen`, padded on the right to a multiple of `multiple` tokens."""
    pairs = [rows[i] for i in chosen]
    ids = [pair.chosen_ids for pair in pairs] + [pair.rejected_ids for pair in pairs]
    input_ids = pad_rows(ids, pad, multiple)
    # From lengths, never from ids: pad and end token may be the same.
    lengths = torch.tensor([len(row) for row in ids])
    starts = torch.tensor([pair.prompt_tokens for pair in pairs] * 2)
    place = torch.arange(input_ids.shape[1])
    return PairBatch(
        input_ids=input_ids,
        mask=(place >= starts[:, None]) & (place < lengths[:, None]),
        p_chosen=torch.tensor([pair.p_chosen for pair in pairs]),
        weight=torch.tensor([pair.weight for pair in pairs]),
        reference_chosen=_column([pair.reference_chosen for pair in pairs]),
        reference_rejected=_column([pair.reference_rejected for pair in pairs]),
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
    batch_tokens: int,
    multiple: int,
) -> tuple[list[Reference], dict[str, int]]:
    """Both replies' log-probabilities, end token included, of every label that `pair_rows` keeps; and its counts."""
    rows, counts = pair_rows(labels, None, format, asked=as_asked, max_tokens=max_tokens)
    lengths = [max(len(row.chosen_ids), len(row.rejected_ids)) for row in rows]
    plan = length_buckets(lengths, batch_tokens=batch_tokens // 2, multiple=multiple, seed=0, epoch=0)
    logps: dict[str, tuple[float, float]] = {}
    with evaluating(model):
        for numbers in plan:
            batch = collate_pairs(rows, numbers, 1.0, pad=pad_id(format.tokenizer), multiple=multiple)
            ids, mask = batch.input_ids.to(model.device), batch.mask.to(model.device)
            chosen, rejected = response_logprobs(model, ids, mask, temperature=1.0).sum(1).chunk(2)
            pairs = zip(chosen.tolist(), rejected.tolist(), strict=True)
            logps.update(zip((rows[number].id for number in numbers), pairs, strict=True))
    kept = [(label, logps[label.id]) for label in labels if label.id in logps]
    return [
        Reference(id=label.id, logp_a=pair[label.p_a < 0.5], logp_b=pair[label.p_a >= 0.5]) for label, pair in kept
    ], counts
