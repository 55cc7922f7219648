"""Readers: a table and a shape give rows of one record. What a file does not say of a row is empty, "" or 0.

`skip` and `limit` count usable rows in table order, so readers of one table with adjacent ranges never overlap. Rows
are left out, and counted, for: `duplicate`, `no_human_turn` (what stands before a reply ends with none that says
something), `empty_reply`, `short_reply`, `identical_replies`. A bad row is one error with its place, or, with
`skip_bad`, counted as `bad_row` and listed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any

from cai_lightning.data.chains import Chain, Step
from cai_lightning.data.chats import Chat, replies
from cai_lightning.data.preferences import Pair, PairOf
from cai_lightning.data.reading import Fields, LeftOut, Read, Table, collected, distinct, usable, value_of, window
from cai_lightning.data.reshape import number_of
from cai_lightning.text.dialogue import Dialogue, prompt_text, reply_text
from cai_lightning.text.labels import human_label
from cai_lightning.text.records import Comparison, Label, Prompt, Rating, Response, Revision, fingerprint, prompt_id


def prompts(
    *, table: Table, chat: Chat, cut: bool, source: str, kind: str, skip: int, limit: int | None, skip_bad: bool
) -> Read[Prompt]:
    """The distinct prompts of a table; intervals resample them by their first human turn.

    With `cut` a dialogue ends at its last human turn, whatever follows; without, another end is a bad row.
    """

    def make(row: Fields) -> Prompt:
        dialogue = chat(row)
        while cut and dialogue and dialogue[-1].role != "human":
            dialogue = dialogue[:-1]
        if not asks(dialogue):
            raise ValueError("the prompt must end with a human turn that says something")
        return prompt_of(dialogue, source, kind)

    return collected(table, make, skip=skip, limit=limit, skip_bad=skip_bad)


def responses(
    *,
    table: Table,
    chat: Chat,
    every_turn: bool,
    source: str,
    kind: str,
    skip: int,
    limit: int | None,
    skip_bad: bool,
) -> Read[Response]:
    """The last reply of each dialogue, or, with `every_turn`, one row for every reply in it; the first a prompt.

    `skip` and `limit` count dialogues. Ids are the prompts', as chains of revisions are told apart by them.
    """

    def make(row: Fields) -> list[Response]:
        found = replies(chat(row))[0 if every_turn else -1 :]
        kept = [_response(asked, text, source, kind) for asked, text in found if text.strip() and asks(asked)]
        if not kept:
            raise LeftOut("no_human_turn" if found[-1][1].strip() else "empty_reply")
        return kept

    dropped: Counter[str] = Counter()
    skipped: list[str] = []
    chats = window(usable(table, make, skip_bad=skip_bad, dropped=dropped, skipped=skipped), skip, limit)
    rows = list(distinct((row for found in chats for row in found), dropped))
    return Read(rows, dict(dropped), skipped)


def revisions(
    *, table: Table, chain: Chain, source: str, kind: str, skip: int, limit: int | None, skip_bad: bool
) -> Read[Revision]:
    """The revisions of each row's chain, rounds from 1, one chain a prompt; `skip` and `limit` count chains."""
    seen: set[str] = set()

    def make(row: Fields) -> list[Revision]:
        dialogue, steps = chain(row)
        if not asks(dialogue):
            raise LeftOut("no_human_turn")
        if not all(step.text.strip() for step in steps):
            raise LeftOut("empty_reply")
        prompt = prompt_of(dialogue, source, kind)
        if prompt.id in seen:
            raise LeftOut("duplicate")
        seen.add(prompt.id)
        return [_revision(prompt, number, step) for number, step in enumerate(steps, start=1)]

    dropped: Counter[str] = Counter()
    skipped: list[str] = []
    chains = window(usable(table, make, skip_bad=skip_bad, dropped=dropped, skipped=skipped), skip, limit)
    return Read([row for found in chains for row in found], dict(dropped), skipped)


def labels(
    *,
    table: Table,
    pair: PairOf,
    p_chosen: Callable[[Pair], float],
    source: str,
    kind: str,
    weight: float,
    min_reply_chars: int,
    skip: int,
    limit: int | None,
    skip_bad: bool,
    margin: Callable[[Pair], float] | None = None,
) -> Read[Label]:
    """Labels with a = chosen, b = rejected and p_a = `p_chosen` of the pair.

    `margin`, if given, says by how many nats the likelier reply is to be better. White space at the ends does not count
    towards `min_reply_chars`; empty replies go in any case.
    """

    def make(row: Fields) -> Label:
        found = _pair(pair, row, min_reply_chars)
        return human_label(
            id=pair_id(found),
            prompt=prompt_of(found.dialogue, source, kind),
            a=found.chosen,
            b=found.rejected,
            p_a=p_chosen(found),
            source=source,
            weight=weight,
            margin=margin(found) if margin else 0.0,
        )

    return collected(table, make, skip=skip, limit=limit, skip_bad=skip_bad)


def ratings(
    *,
    table: Table,
    chat: Chat,
    label: str,
    worst: float,
    best: float,
    source: str,
    kind: str,
    weight: float,
    skip: int,
    limit: int | None,
    skip_bad: bool,
) -> Read[Rating]:
    """Ratings of each dialogue's last reply, from a number under `label` that lies between `worst` and `best`.

    TRL's unpaired rows have P(it is desirable), or true and false: 0 and 1. Red-team attempts of the HH release have a
    rating of harm: 4 and 0. Raises ValueError where `worst` equals `best`.
    """
    if worst == best:
        raise ValueError(f"worst, best: both are {worst}; a rating needs two ends")

    def make(row: Fields) -> Rating:
        *asked, reply = chat(row)
        if not asks(tuple(asked)):
            raise LeftOut("no_human_turn")
        if reply.role != "assistant" or not reply.content.strip():
            raise LeftOut("empty_reply")
        return Rating(
            id=fingerprint(prompt_text(tuple(asked)) + reply_text(reply.content)),
            prompt=prompt_of(tuple(asked), source, kind),
            text=reply.content,
            p_desirable=_share(row, label, worst, best),
            source=source,
            weight=weight,
        )

    return collected(table, make, skip=skip, limit=limit, skip_bad=skip_bad)


def comparisons(
    *,
    table: Table,
    pair: PairOf,
    source: str,
    kind: str,
    seed: int,
    min_reply_chars: int,
    skip: int,
    limit: int | None,
    skip_bad: bool,
) -> Read[Comparison]:
    """The pairs of `labels` without their labels, for a feedback model; which reply is a is a hash of seed and id."""

    def make(row: Fields) -> Comparison:
        found = _pair(pair, row, min_reply_chars)
        id = pair_id(found)
        swap = hashlib.sha256(f"{seed}/{id}".encode()).digest()[0] % 2 == 1
        a, b = (found.rejected, found.chosen) if swap else (found.chosen, found.rejected)
        prompt = prompt_of(found.dialogue, source, kind)
        return Comparison(id=id, prompt=prompt, a=a, b=b, source=source, model="", temperature=0.0, seed=seed)

    return collected(table, make, skip=skip, limit=limit, skip_bad=skip_bad)


def prompt_of(dialogue: Dialogue, source: str, kind: str) -> Prompt:
    """The prompt of a dialogue; its cluster is its first human turn."""
    first = next(turn.content for turn in dialogue if turn.role == "human")
    cluster = fingerprint(first.strip())
    return Prompt(id=prompt_id(dialogue), dialogue=dialogue, source=source, kind=kind, cluster=cluster)


def asks(dialogue: Dialogue) -> bool:
    """Whether a dialogue ends with a human turn that says something."""
    return bool(dialogue) and dialogue[-1].role == "human" and bool(dialogue[-1].content.strip())


def pair_id(pair: Pair) -> str:
    """The id of a label: the fingerprint of the prompt with either reply, the preferred one first."""
    sides = (pair.chosen, pair.rejected)
    return fingerprint("\0".join(prompt_text(pair.dialogue) + reply_text(side) for side in sides))


def _pair(pair: PairOf, row: Fields, min_reply_chars: int) -> Pair:
    found = pair(row)
    shortest = min(len(found.chosen.strip()), len(found.rejected.strip()))
    if not asks(found.dialogue):
        raise LeftOut("no_human_turn")
    if shortest < max(1, min_reply_chars):
        raise LeftOut("short_reply" if shortest else "empty_reply")
    if found.chosen.strip() == found.rejected.strip():
        raise LeftOut("identical_replies")
    return found


def _share(row: Fields, column: str, worst: float, best: float) -> float:
    """How far a number lies from `worst` to `best`, also as a CSV cell spells it: true is 1."""
    spelt = str(value_of(row, column)).strip().lower()
    number = {"true": 1.0, "false": 0.0}.get(spelt)
    number = number_of(row, column) if number is None else number
    if not min(worst, best) <= number <= max(worst, best):
        what = "a probability, or true or false" if (worst, best) == (0, 1) else f"from {worst:g} to {best:g}"
        raise ValueError(f"{column!r} must be {what}, is {spelt:.60}")
    return (number - worst) / (best - worst)


def _response(asked: Dialogue, text: str, source: str, kind: str) -> Response:
    prompt = prompt_of(asked, source, kind)
    return Response(id=prompt.id, prompt=prompt, text=text, **_UNSAMPLED)


def _revision(prompt: Prompt, number: int, step: Step) -> Revision:
    return Revision(
        id=f"{prompt.id}.r{number}",
        prompt=prompt,
        round=number,
        previous=step.previous,
        critique=step.critique,
        text=step.text,
        principle=step.principle.id,
        principle_hash=step.principle.hash,
        **_UNSAMPLED,
    )


_UNSAMPLED: dict[str, Any] = dict(model="", temperature=0.0, seed=0, prompt_tokens=0, tokens=0, finish="stop")
