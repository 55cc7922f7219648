"""Runs and sweeps joined: what they hold together, before it is drawn."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cai_lightning.report.axes import Axis, axes
from cai_lightning.report.browser import browse
from cai_lightning.report.finished import Finished
from cai_lightning.report.kinds import KINDS
from cai_lightning.report.makers import maker

PUBLIC = ("multiple_choice", "surface", "plain_text", "reward_accuracy", "baseline")


@dataclass(frozen=True)
class Held:
    """A table of a run or sweep: whose it is, the slot that made it, what its file is called, and what is in it."""

    run: Finished
    slot: str
    content: Any


@dataclass(frozen=True)
class Joined:
    """All that the page shows. `tables` are by stage; `texts` is what `browse` returns."""

    name: str
    runs: list[Finished]
    axes: list[Axis]
    tables: dict[str, list[Held]]
    texts: dict[str, Any]


def join(runs: Sequence[Finished], name: str, *, prompts: int, characters: int) -> Joined:
    """The joined runs. Raises ValueError where none has anything to show, or where what it needs is gone."""
    found = axes(runs)
    tables = {stage: list(_tables(runs, stage)) for stage in (*KINDS, "calibration", *PUBLIC)}
    texts = browse(runs, _names(found), prompts=prompts, characters=characters)
    if not found and not any(tables.values()) and not texts["prompts"]:
        folders = ", ".join(str(run.folder) for run in runs)
        raise ValueError(
            f"{folders}: no ratings, findings, tables or texts to show; its own report.html is all there is"
        )
    _complete(texts["makers"], found, runs)
    return Joined(name, list(runs), found, tables, texts)


def _tables(runs: Sequence[Finished], stage: str) -> Iterator[Held]:
    """The tables of a stage, each result once, under the first run that has it."""
    known: set[str] = set()
    for run in runs:
        names = run.joint(stage)
        for slot, content in run.tables(stage):
            if names[slot] not in known:
                known.add(names[slot])
                yield Held(run, slot, content)


def _names(found: Sequence[Axis]) -> dict[tuple[int, str], list[str]]:
    """What the players are called whose replies a result holds, by run."""
    names: dict[tuple[int, str], list[str]] = {}
    for axis in found:
        for player, replies in axis.answers.items():
            for place in axis.places[player]:
                for _, answers in replies:
                    names.setdefault((place, answers), []).append(player)
    return names


def _complete(makers: list[dict[str, Any]], found: Sequence[Axis], runs: Sequence[Finished]) -> None:
    """Adds the makers of rated replies that the browser has not met, so that every player says what made it."""
    known = {one["name"] for one in makers}
    for axis in found:
        for player, replies in axis.answers.items():
            for _, answers in replies:
                if answers not in known:
                    known.add(answers)
                    place = axis.places[player][0]
                    makers.append(maker(runs[place], answers) | {"runs": [place], "players": [player]})


def apart(found: Sequence[Axis]) -> list[str]:
    """In what the axes differ, in words; empty where there is one at most."""
    fields = {
        "anchor": "anchors",
        "policies": "anchor models",
        "judges": "judges",
        "prompts": "prompts",
        "ties": "what a tie counts for",
    }
    return [words for field, words in fields.items() if len({getattr(axis.scale, field) for axis in found}) > 1]


def scale_words(axis: Axis) -> dict[str, str]:
    """What an axis of Elo rests on, for readers."""
    judges = [json.loads(text) or {} for text in axis.scale.judges]
    return {
        "anchor": f"{axis.scale.anchor} ({', '.join(axis.scale.policies) or 'unknown'})",
        "judge": "; ".join(map(_judge, judges)) or "unknown",
        "prompts": ", ".join(axis.scale.prompts) or "unknown",
        "ties": axis.scale.ties,
    }


def _judge(node: Mapping[str, Any]) -> str:
    plain = [f"{key}={value}" for key, value in node.items() if isinstance(value, bool | int | float | str)]
    plain = [text for text in plain if not text.startswith(("_target_", "template"))]
    return str(node.get("_target_", "unknown")).rpartition(".")[2] + (f" ({', '.join(plain)})" if plain else "")
