"""The transcripts that a reader browses: prompts chosen by hash, with every chain and reply and what made each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cai_lightning.report import makers
from cai_lightning.report.finished import Finished
from cai_lightning.report.transcripts import chain_of, in_order
from cai_lightning.text.records import ROWS, Answer, Prompt, Revision, iter_rows

Names = Mapping[tuple[int, str], list[str]]  # (place of the run, `answers/key`) -> the names of its player on the page


@dataclass
class _Texts:
    """What all runs hold: rows by prompt and maker, and the makers in the order in which they were met."""

    prompts: dict[str, Prompt] = field(default_factory=dict)
    makers: dict[str, dict[str, Any]] = field(default_factory=dict)
    replies: dict[str, dict[str, Answer]] = field(default_factory=dict)
    revisions: dict[str, dict[str, list[Revision]]] = field(default_factory=dict)
    principles: dict[str, list[str]] = field(default_factory=dict)


def browse(runs: Sequence[Finished], names: Names, *, prompts: int, characters: int) -> dict[str, Any]:
    """At most `prompts` prompts and `characters` letters of them, in the order of the ids' hashes, never by outcome.

    {"total", "makers": [{..., "runs", "players"}], "principles": {id: [requests]}, "prompts": [{"id", "kind", "turns",
    "chains": [{"maker", "reply", "rounds": [{"round", "principle", "critique", "text", "cleaned"}]}], "replies":
    [{"maker", "text", "finish"}]}]}. `maker` is a place in "makers". Snapshots are left out. The first prompt is shown
    whatever its length.
    """
    texts = _read(runs, names)
    order = in_order(set(texts.revisions), {name: texts.prompts[name].kind for name in texts.replies})
    place = {name: k for k, name in enumerate(texts.makers)}
    shown: list[dict[str, Any]] = []
    room = characters
    for name in order[:prompts]:
        one = _transcript(texts, name, place)
        room -= _letters(one)
        if room < 0 and shown:
            break
        shown.append(one)
    used = {step["principle"] for one in shown for chain in one["chains"] for step in chain["rounds"]}
    words = {name: texts.principles[name] for name in sorted(used) if name in texts.principles}
    return {"total": len(order), "makers": list(texts.makers.values()), "principles": words, "prompts": shown}


def _read(runs: Sequence[Finished], names: Names) -> _Texts:
    texts = _Texts()
    for place, run in enumerate(runs):
        for name in run.named(*makers.ANSWERING).values():
            if _met(texts, run, place, name):
                for row in iter_rows(run.path(name) / ROWS, Answer):
                    if row.sequences is None:
                        _note(texts, row.prompt)
                        texts.replies.setdefault(row.prompt.id, {})[name] = row
                        texts.makers[name]["players"] = texts.makers[name]["players"] or [row.player]
            if known := names.get((place, name)):
                kept = texts.makers[name].setdefault("named", [])
                kept += [one for one in known if one not in kept]
        for name in run.named(*makers.REVISING).values():
            if _met(texts, run, place, name):
                texts.principles |= makers.principles(run, name)
                for step in iter_rows(run.path(name) / ROWS, Revision):
                    _note(texts, step.prompt)
                    texts.revisions.setdefault(step.prompt.id, {}).setdefault(name, []).append(step)
    for one in texts.makers.values():
        one["players"] = one.pop("named", []) or one["players"]
    return texts


def _met(texts: _Texts, run: Finished, place: int, name: str) -> bool:
    """Whether this maker is met for the first time; notes that the run has it."""
    new = name not in texts.makers
    if new:
        one = makers.maker(run, name) | {"constitution": makers.constitution(run, name), "runs": [], "players": []}
        texts.makers[name] = one
    texts.makers[name]["runs"].append(place)
    return new


def _note(texts: _Texts, prompt: Prompt) -> None:
    texts.prompts.setdefault(prompt.id, prompt)


def _transcript(texts: _Texts, name: str, place: Mapping[str, int]) -> dict[str, Any]:
    prompt = texts.prompts[name]
    return {
        "id": prompt.id,
        "kind": prompt.kind,
        "turns": [[turn.role, turn.content] for turn in prompt.dialogue],
        "chains": [
            {"maker": place[maker], "reply": rounds[0].previous, "rounds": [_round(row) for row in rounds]}
            for maker, rows in texts.revisions.get(name, {}).items()
            if (rounds := chain_of(rows))
        ],
        "replies": [
            {"maker": place[maker], "text": row.text, "finish": row.finish}
            for maker, row in texts.replies.get(name, {}).items()
        ],
    }


def _round(row: Revision) -> dict[str, Any]:
    return {
        "round": row.round,
        "principle": row.principle,
        "critique": row.critique,
        "text": row.text,
        "cleaned": list(row.cleaned),
    }


def _letters(value: Any) -> int:
    return sum(len(text) for text in _strings(value))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(item)
