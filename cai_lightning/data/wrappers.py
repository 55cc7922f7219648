"""Readings made from readings: every turn of a conversation, jailbroken copies, shuffled windows and mixtures.

A reading is what a reader gives, `Read` or a plain list; its rows are prompts or any rows that hold one.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from cai_lightning.data.reading import Read, distinct, window
from cai_lightning.text.dialogue import Message
from cai_lightning.text.records import Prompt, prompt_id

Row = TypeVar("Row")
Reading = Read[Row] | Sequence[Row]


def as_read(reading: Reading[Row]) -> Read[Row]:
    """The reading with its counts; a plain list left nothing out."""
    return reading if isinstance(reading, Read) else Read(list(reading), {})


def every_human_turn(*, prompts: Reading[Prompt]) -> Read[Prompt]:
    """A prompt for every human turn of each conversation, as in the paper (section 3.2); clusters are kept."""
    return _recut(prompts, _cuts)


def first_human_turn(*, prompts: Reading[Prompt]) -> Read[Prompt]:
    """The prompts of the first human turn of each conversation, as Hugging Face and NVIDIA cut them."""
    return _recut(prompts, lambda prompt: _cuts(prompt)[:1])


def jailbroken(*, prompts: Reading[Prompt], templates: Mapping[str, str], kind: str) -> Read[Prompt]:
    """A copy of each prompt for each template, whose {prompt} is the last human turn; braces in either are text.

    The cluster is the prompt's, so intervals know that copies of one are alike. The copies are of `kind`; their ids are
    new and the source ends in "+NAME" of the template. Raises ValueError where one does not hold {prompt} once.
    """
    for name, template in templates.items():
        if template.count("{prompt}") != 1:
            raise ValueError(
                f"templates.{name}: must hold {{prompt}} once, holds it {template.count('{prompt}')} times"
            )
    found = as_read(prompts)
    rows = [_wrapped(prompt, name, template, kind) for name, template in templates.items() for prompt in found.rows]
    return replace(found, rows=rows)


def shuffled(*, rows: Reading[Row], seed: int, skip: int, limit: int | None) -> Read[Row]:
    """The rows `skip` to `skip + limit` in the order of a hash of seed and cluster: adjacent windows never overlap.

    Rows of one cluster stay together, in their own order; the end of a window may part one, as `share` never does.
    """
    found = as_read(rows)
    ordered = sorted(found.rows, key=lambda row: _ticket(seed, _cluster(row)))
    return replace(found, rows=window(ordered, skip, limit))


def share(*, rows: Reading[Row], seed: int, start: float, stop: float) -> Read[Row]:
    """The rows whose cluster hashes into [start, stop), parts of 1, in their own order.

    Windows that do not overlap share no cluster, whatever else is in the readings; sizes are as chance has it.
    """
    found = as_read(rows)
    kept = [row for row in found.rows if start <= int.from_bytes(_ticket(seed, _cluster(row))[:6]) / 2**48 < stop]
    return replace(found, rows=kept)


def mixture(*, readers: Mapping[str, Reading[Any]], weights: Mapping[str, float], count: int, seed: int) -> Read[Any]:
    """`count` rows, of each reader in proportion to its weight (largest remainders), chosen and ordered by seed.

    Raises ValueError where a reader has too few rows for its part, or a reader and a weight have no partner.
    """
    if set(weights) != set(readers) or min(weights.values(), default=0) < 0 or not sum(weights.values()):
        raise ValueError(
            f"mixture: weights {dict(weights)} must be one a reader, none below 0, not all 0: {list(readers)}"
        )
    exact = {name: count * weights[name] / sum(weights.values()) for name in readers}
    counts = {name: math.floor(part) for name, part in exact.items()}
    for name in sorted(exact, key=lambda name: counts[name] - exact[name])[: count - sum(counts.values())]:
        counts[name] += 1
    return counted_mixture(readers=readers, counts=counts, seed=seed)


def counted_mixture(*, readers: Mapping[str, Reading[Any]], counts: Mapping[str, int | None], seed: int) -> Read[Any]:
    """`counts[name]` rows of each reader (null: all), chosen and ordered by a hash of seed and id.

    A row that an earlier reader also has counts as `duplicate` of the later. Raises ValueError where a reader has too
    few rows, or a reader and a count have no partner.
    """
    if set(counts) != set(readers):
        raise ValueError(f"mixture: counts name {list(counts)}, readers {list(readers)}; they must be the same")
    dropped: Counter[str] = Counter()
    skipped: list[str] = []
    seen: set[str] = set()
    chosen: list[Any] = []
    for name, reading in readers.items():
        found = as_read(reading)
        dropped.update(found.dropped)
        skipped += found.skipped
        fresh = [row for row in found.rows if row.id not in seen]
        dropped["duplicate"] += len(found.rows) - len(fresh)
        wanted = counts[name]
        if wanted is not None and wanted > len(fresh):
            raise ValueError(f"mixture: {name} has {len(fresh)} rows of its own, {wanted} are wanted; take fewer")
        seen.update(row.id for row in fresh)
        chosen += window(sorted(fresh, key=lambda row: _ticket(seed, row.id)), 0, wanted)
    return Read(sorted(chosen, key=lambda row: _ticket(seed, row.id)), dict(+dropped), skipped)


def _recut(prompts: Reading[Prompt], cut: Callable[[Prompt], list[Prompt]]) -> Read[Prompt]:
    """What `cut` makes of each prompt; a prompt that another has made already counts as dropped."""
    found = as_read(prompts)
    dropped = Counter(found.dropped)
    rows = distinct((made for prompt in found.rows for made in cut(prompt)), dropped)
    return replace(found, rows=list(rows), dropped=dict(dropped))


def _cuts(prompt: Prompt) -> list[Prompt]:
    """The prompt at each of its human turns that say something, itself the last."""
    cuts = []
    for end, turn in enumerate(prompt.dialogue[:-1], start=1):
        if turn.role == "human" and turn.content.strip():
            dialogue = prompt.dialogue[:end]
            cuts.append(replace(prompt, id=prompt_id(dialogue), dialogue=dialogue))
    return [*cuts, prompt]


def _wrapped(prompt: Prompt, name: str, template: str, kind: str) -> Prompt:
    *before, last = prompt.dialogue
    dialogue = (*before, Message("human", template.replace("{prompt}", last.content)))
    return replace(prompt, id=prompt_id(dialogue), dialogue=dialogue, kind=kind, source=f"{prompt.source}+{name}")


def _cluster(row: Any) -> str:
    return str(getattr(row, "prompt", row).cluster)


def _ticket(seed: int, id: str) -> bytes:
    return hashlib.sha256(f"{seed}/{id}".encode()).digest()
