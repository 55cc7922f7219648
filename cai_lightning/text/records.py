"""The rows that pass between stages: frozen dataclasses, one JSON object a line.

Every text row says where it came from: prompt, source, principle, round, model, sampler, seed, token counts.
Reading is strict: a line that does not fit its record is one error with file, line and cause.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cai_lightning.text.dialogue import Dialogue, Message, to_text

ROWS = "rows.jsonl"
_IF_SET = {"if_set": True}  # of a field that a line holds only where it is not the default


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A dialogue that ends with a human turn. `cluster` is what intervals resample; `kind` what it probes."""

    id: str
    dialogue: Dialogue
    source: str
    kind: str
    cluster: str


@dataclass(frozen=True, kw_only=True)
class Response:
    """A sampled reply. `model` is the store key of the sampler, `finish` is "stop" or "length".

    `cut`: the prompt was longer than the model reads, and lost its first turns.
    """

    id: str
    prompt: Prompt
    text: str
    model: str
    temperature: float
    seed: int
    prompt_tokens: int
    tokens: int
    finish: str
    cut: bool = field(default=False, metadata=_IF_SET)


@dataclass(frozen=True, kw_only=True)
class Revision:
    """Round `round` (from 1) of a revision chain: `previous` became `text` under one principle.

    `critique` is null where the revision was direct. `principle_hash` fingerprints the principle's words. Where `text`
    or `critique` is not what the model wrote, `raw` or `critique_raw` is, and `cleaned` names what was done, in order.
    `cut`: a prompt of this round was longer than the model reads, and lost what stood in front, few-shots first.
    """

    id: str
    prompt: Prompt
    round: int
    previous: str
    critique: str | None
    text: str
    principle: str
    principle_hash: str
    model: str
    temperature: float
    seed: int
    prompt_tokens: int
    tokens: int
    finish: str
    raw: str | None = None
    critique_raw: str | None = None
    cleaned: tuple[str, ...] = ()
    cut: bool = field(default=False, metadata=_IF_SET)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two replies to one prompt, not yet labelled. `ended`: whether a, and whether b, is learned with an end token."""

    id: str
    prompt: Prompt
    a: str
    b: str
    source: str
    model: str
    temperature: float
    seed: int
    ended: tuple[bool, bool] = field(default=(True, True), metadata=_IF_SET)


@dataclass(frozen=True, kw_only=True)
class Label:
    """A comparison with P(a is better). `logit_ab`, `logit_ba`: log-odds of a in either order, if asked so.

    AI labels name principle and feedback model; human or simulated ones leave them null. `weight` scales the loss.
    `logits`: the log-odds of a after every question asked, by principle, order and thought, or of every member of an
    ensemble. `thoughts`: the reasoning before each letter. `letter_mass`: the mean P(A) + P(B), near 0 where the model
    would not have answered with a letter at all. `ended` is that of the comparison. `cut`: a question was longer than
    the model reads, and lost what stood in front, few-shots first. `margin`: by how many nats of log-odds the likelier
    reply is to be better.
    """

    id: str
    prompt: Prompt
    a: str
    b: str
    p_a: float
    logit_ab: float | None
    logit_ba: float | None
    principle: str | None
    principle_hash: str | None
    model: str | None
    source: str
    weight: float
    logits: tuple[float, ...] = ()
    thoughts: tuple[str, ...] = ()
    letter_mass: float | None = None
    ended: tuple[bool, bool] = field(default=(True, True), metadata=_IF_SET)
    cut: bool = field(default=False, metadata=_IF_SET)
    margin: float = field(default=0.0, metadata=_IF_SET)


@dataclass(frozen=True, kw_only=True)
class Rating:
    """A reply rated alone, with P(it is desirable). `weight` scales the loss; `ended`: it has an end token."""

    id: str
    prompt: Prompt
    text: str
    p_desirable: float
    source: str
    weight: float
    ended: bool = field(default=True, metadata=_IF_SET)


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """Answers to one prompt and the votes that each got, in the same order; `id` is the prompt's."""

    id: str
    prompt: Prompt
    answers: tuple[str, ...]
    votes: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Summed log-probabilities in nats of both replies of label `id` under the reference policy."""

    id: str
    logp_a: float
    logp_b: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A player's reply to an evaluation prompt. `sequences`: RL samples seen so far, for snapshots of a run.

    `cut`: the prompt was longer than the model reads, and lost its first turns.
    """

    id: str
    player: str
    sequences: int | None
    prompt: Prompt
    text: str
    model: str
    temperature: float
    seed: int
    prompt_tokens: int
    tokens: int
    finish: str
    cut: bool = field(default=False, metadata=_IF_SET)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Player against opponent on one prompt under one criterion: win 1, tie 0.5, loss 0."""

    prompt: str
    cluster: str
    kind: str
    criterion: str
    player: str
    opponent: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What a judge measures on one answer alone: metric name -> value, null where it does not apply."""

    prompt: str
    cluster: str
    kind: str
    player: str
    sequences: int | None
    metrics: dict[str, float | None]


Row = TypeVar("Row")


def fingerprint(text: str) -> str:
    """The first 16 hex digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prompt_id(dialogue: Dialogue) -> str:
    """The id of a prompt: the fingerprint of its text, so equal prompts share it."""
    return fingerprint(to_text(dialogue))


def to_line(row: Any) -> str:
    """One row as a JSON line; key order is the record's, so equal rows are equal bytes."""
    values = dataclasses.asdict(row)
    for known in dataclasses.fields(row):
        if "if_set" in known.metadata and values[known.name] == known.default:
            del values[known.name]
    return json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"


def write_rows(folder: Path, rows: Iterable[Any], name: str = ROWS) -> int:
    """The number of rows written to `folder/name`."""
    count = 0
    with (folder / name).open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(to_line(row))
            count += 1
    return count


def read_rows(folder: Path, record: type[Row], name: str = ROWS) -> list[Row]:
    """The rows of `folder/name`, in file order. Raises ValueError naming file, line and cause."""
    return list(iter_rows(folder / name, record))


def iter_rows(path: Path, record: type[Row]) -> Iterator[Row]:
    """The rows of a JSONL file, one at a time; split at newlines only (a reply may hold U+2028)."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield from_object(json.loads(line), record)
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}:{number}: not a {record.__name__}: {error}") from None


def from_object(value: dict[str, Any], record: type[Row]) -> Row:
    """A record from its JSON object. Raises ValueError on unknown fields, and on missing ones that have no default."""
    found = dataclasses.fields(record)  # type: ignore[arg-type]
    names = [field.name for field in found]
    if missing := [f.name for f in found if f.default is dataclasses.MISSING and f.name not in value]:
        raise ValueError(f"missing field {missing[0]!r}")
    if unknown := [name for name in value if name not in names]:
        raise ValueError(f"unknown field {unknown[0]!r}")
    fields = dict(value)
    if "prompt" in fields and isinstance(fields["prompt"], dict):
        fields["prompt"] = from_object(fields["prompt"], Prompt)
    if "dialogue" in fields:
        fields["dialogue"] = tuple(Message(**turn) for turn in fields["dialogue"])
    # the one other kind of sequence in a record is a tuple of plain values
    fields.update({name: tuple(item) for name, item in fields.items() if isinstance(item, list)})
    return record(**fields)
