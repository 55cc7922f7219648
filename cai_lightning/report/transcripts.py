"""Which conversations a report shows: chosen by hash, never by outcome."""

from __future__ import annotations

from collections.abc import Sequence
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
    order = sorted(prompts, key=fingerprint)
    both = [name for name in order if name in chains and name in replies]
    revised = [name for name in order if name in chains and name not in replies]
    answered: dict[str, list[str]] = {}
    for name in order:
        if name in replies and name not in chains:
            answered.setdefault(prompts[name].kind, []).append(name)
    rest = _in_turn(revised, _in_turn(*(answered[kind] for kind in sorted(answered))))
    return [_transcript(prompts[name], chains.get(name, []), replies.get(name, [])) for name in (*both, *rest)[:count]]


def _by_prompt(rows: Sequence[Any]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for row in rows:
        grouped.setdefault(row.prompt.id, []).append(row)
    return grouped


def _in_turn(*lists: Sequence[str]) -> list[str]:
    return [name for name in chain.from_iterable(zip_longest(*lists)) if name is not None]


def _transcript(prompt: Prompt, revisions: list[Revision], answers: list[Answer]) -> dict[str, Any]:
    rounds = _chain(revisions)
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


def _chain(revisions: list[Revision]) -> list[Revision]:
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
