"""Which conversations a report shows: chosen by hash, never by outcome."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

from cai_lightning.text.records import Answer, Prompt, Revision, fingerprint


def choose(revisions: Sequence[Revision], answers: Sequence[Answer], *, count: int) -> list[dict[str, Any]]:
    """At most `count` transcripts in the order of their prompts' hashes.

    {"id", "kind", "prompt": [{"role", "content"}], "reply", "rounds": [{"round", "principle", "critique",
    "revision"}], "answers": [{"player", "text"}]}. Prompts with both a revision chain and answers come first;
    then chains (training prompts) and answers (held-out prompts, kinds in turn) alternate. Snapshots are left out.
    """
    chains = _by_prompt(revisions)
    replies = _by_prompt([row for row in answers if "@" not in row.player])
    prompts = {row.prompt.id: row.prompt for row in revisions} | {row.prompt.id: row.prompt for row in answers}
    order = in_order(set(chains), {name: prompts[name].kind for name in replies})
    return [_transcript(prompts[name], chains.get(name, []), replies.get(name, [])) for name in order[:count]]


def in_order(revised: Collection[str], answered: Mapping[str, str]) -> list[str]:
    """The ids of all prompts in the order in which they are shown, by the hash of the id; `answered` gives their kinds.

    Prompts with both a revision chain and answers come first; then chains and answers, kinds in turn, alternate.
    """
    order = sorted({*revised, *answered}, key=fingerprint)
    both = [name for name in order if name in revised and name in answered]
    chains = [name for name in order if name not in answered]
    by_kind: dict[str, list[str]] = {}
    for name in order:
        if name not in revised:
            by_kind.setdefault(answered[name], []).append(name)
    return [*both, *_in_turn(chains, _in_turn(*(by_kind[kind] for kind in sorted(by_kind))))]


def _by_prompt(rows: Sequence[Any]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for row in rows:
        grouped.setdefault(row.prompt.id, []).append(row)
    return grouped


def _in_turn(*lists: Sequence[str]) -> list[str]:
    return [name for name in chain.from_iterable(zip_longest(*lists)) if name is not None]


def _transcript(prompt: Prompt, revisions: list[Revision], answers: list[Answer]) -> dict[str, Any]:
    rounds = chain_of(revisions)
    first_of = {row.player: row.text for row in reversed(answers)}
    return {
        "id": prompt.id,
        "kind": prompt.kind,
        "prompt": [{"role": turn.role, "content": turn.content} for turn in prompt.dialogue],
        "reply": rounds[0].previous if rounds else None,
        "rounds": [
            {"round": row.round, "principle": row.principle, "critique": row.critique, "revision": row.text}
            for row in rounds
        ],
        "answers": [{"player": name, "text": first_of[name]} for name in dict.fromkeys(row.player for row in answers)],
    }


def chain_of(revisions: list[Revision]) -> list[Revision]:
    """The first chain of a prompt: each round revises what the round before left."""
    found: list[Revision] = []
    for row in sorted(revisions, key=lambda row: row.round):  # stable: ties stay in file order
        if row.round == len(found) + 1 and (
            not found or _origin(row, row.previous) == _origin(found[-1], found[-1].text)
        ):
            found.append(row)
    return found


def _origin(row: Revision, text: str) -> tuple[str, str, int]:
    return text, row.model, row.seed
