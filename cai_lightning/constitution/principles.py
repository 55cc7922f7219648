"""Principles and constitutions, checked when they are made, and the seeded draw of a principle.

A principle can critique and revise (both wordings), compare, or all three. The markers around the wordings
("\\n\\nCritiqueRequest: ...") belong to `critique` and to the comparison template, not to the principle.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cai_lightning.constitution.reasoning import Reasoning
from cai_lightning.text.dialogue import MARKERS, Dialogue, from_text
from cai_lightning.text.records import fingerprint

FIELDS = ("conversation", "principle", "a", "b")
_WORDINGS = ("critique", "revision", "comparison")
_TAGS = ("CritiqueRequest:", "RevisionRequest:")


@dataclass(frozen=True)
class Principle:
    """One principle: what to criticise, how to revise, how to compare; null where it does not do that."""

    id: str
    critique: str | None
    revision: str | None
    comparison: str | None

    @property
    def hash(self) -> str:
        """The fingerprint of the three wordings, whatever the id."""
        return fingerprint(json.dumps([self.critique, self.revision, self.comparison], ensure_ascii=False))


@dataclass(frozen=True)
class ComparisonExample:
    """A solved comparison for the few-shot prefix; its letters are assigned when the prefix is made."""

    dialogue: Dialogue
    better: str
    worse: str


@dataclass(frozen=True)
class Constitution:
    """A named set of principles with its few-shot texts, its comparison template, and how it lets a model reason."""

    name: str
    principles: tuple[Principle, ...]
    critique_few_shots: tuple[str, ...]
    comparison_few_shots: tuple[ComparisonExample, ...]
    comparison_template: str
    reasoning: Reasoning | None = None

    @property
    def revising(self) -> tuple[Principle, ...]:
        """The principles that critique and revise."""
        return tuple(principle for principle in self.principles if principle.revision is not None)

    @property
    def comparing(self) -> tuple[Principle, ...]:
        """The principles that compare."""
        return tuple(principle for principle in self.principles if principle.comparison is not None)


def constitution(
    *,
    name: str,
    principles: Sequence[Mapping[str, str]],
    critique_few_shots: Sequence[str],
    comparison_few_shots: Sequence[Mapping[str, str]],
    comparison_template: str,
    reasoning: Mapping[str, Any] | None = None,
) -> Constitution:
    """The constitution that a YAML block describes. Raises ValueError, one line naming the key that is wrong.

    A principle has `id` and either `critique` with `revision`, or `comparison`, or all three. A critique example
    is Human/Assistant text; the stop marker "\\n\\nHuman:" that may end it is cut, so that examples and a dialogue
    join without an empty turn. A comparison example has `dialogue` (Human/Assistant text), `better`, `worse`.
    `reasoning` (see `Reasoning`) is for labels with chain of thought; without it there are none.
    """
    built = tuple(_principle(entry, f"principles[{i}]") for i, entry in enumerate(principles))
    ids = [principle.id for principle in built]
    if repeated := [i for i, id in enumerate(ids) if id in ids[:i]]:
        key = f"principles[{repeated[0]}].id"
        raise ValueError(f"{key}: {ids[repeated[0]]!r} occurs twice; ids must be unique")
    if not built:
        raise ValueError("principles: empty; at least one principle must revise or compare")
    return Constitution(
        name,
        built,
        tuple(_critique_few_shot(text, f"critique_few_shots[{i}]") for i, text in enumerate(critique_few_shots)),
        tuple(_comparison_few_shot(e, f"comparison_few_shots[{i}]") for i, e in enumerate(comparison_few_shots)),
        _template(comparison_template, "comparison_template"),
        None if reasoning is None else _reasoning(reasoning),
    )


def draw(principles: Sequence[Principle], *, seed: int, row: str, round: int, replacement: bool) -> Principle:
    """The principle of (seed, row, round), uniform over the set; without replacement a row's rounds go through
    one shuffled order, again and again.

    Each principle draws a hash of its own and the smallest wins, so taking one principle out of a constitution
    changes only the draws that had fallen on it: leave-one-out runs stay paired.
    """
    if not principles:
        raise ValueError(f"row {row}: no principle to draw from; the constitution has none of this kind")
    if replacement:
        return min(principles, key=lambda principle: ticket("draw", seed, row, round, principle.id))
    order = sorted(principles, key=lambda principle: ticket("order", seed, row, principle.id))
    return order[round % len(order)]


def ticket(*key: object) -> bytes:
    """A hash of what a draw depends on: the smallest wins."""
    return hashlib.sha256(json.dumps(key).encode()).digest()


def _principle(entry: Mapping[str, Any], key: str) -> Principle:
    _only(entry, ("id", *_WORDINGS), key)
    words = {name: _text(entry[name], f"{key}.{name}") for name in _WORDINGS if entry.get(name) is not None}
    if ("critique" in words) != ("revision" in words):
        missing = "revision" if "critique" in words else "critique"
        raise ValueError(f"{key}.{missing}: missing; a principle that revises needs both critique and revision")
    if not words:
        raise ValueError(f"{key}: has no wording; give critique and revision, or comparison")
    for name, text in words.items():
        if tag := next((tag for tag in _TAGS if tag in text), None):
            raise ValueError(f"{key}.{name}: contains {tag!r}, which is added around it; leave it out")
    id = _text(entry.get("id"), f"{key}.id")
    return Principle(id, words.get("critique"), words.get("revision"), words.get("comparison"))


def _critique_few_shot(text: object, key: str) -> str:
    text = _text(text, key)
    if not text.startswith(MARKERS["human"]):
        raise ValueError(f"{key}: starts with {text[:20]!r}; it must start with {MARKERS['human']!r}")
    return text.removesuffix(MARKERS["human"])


def _comparison_few_shot(entry: Mapping[str, Any], key: str) -> ComparisonExample:
    names = ("dialogue", "better", "worse")
    _only(entry, names, key)
    dialogue, better, worse = (_text(entry.get(name), f"{key}.{name}") for name in names)
    try:
        return ComparisonExample(from_text(dialogue), better, worse)
    except ValueError as error:
        raise ValueError(f"{key}.dialogue: {error}") from None


def _reasoning(entry: Mapping[str, Any]) -> Reasoning:
    names = tuple(field.name for field in dataclasses.fields(Reasoning))
    _only(entry, names, "reasoning")
    read: dict[str, Any] = {
        name: tuple(_text(text, f"reasoning.{name}[{i}]") for i, text in enumerate(entry.get(name, ())))
        if name in ("stop", "few_shots")
        else _text(entry.get(name), f"reasoning.{name}")
        for name in names
    }
    _template(read["template"], "reasoning.template")
    return Reasoning(**read)


def _template(template: object, key: str) -> str:
    text = _text(template, key)
    wanted = ", ".join(f"{{{field}}}" for field in FIELDS)
    try:
        parts = [part for part in string.Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"{key}: {error}; write {{{{ and }}}} for braces") from None
    if sorted(str(part[1]) for part in parts) != sorted(FIELDS) or any(part[2] or part[3] for part in parts):
        found = ", ".join(f"{{{part[1]}}}" for part in parts) or "none"
        raise ValueError(f"{key}: has the fields {found}; it must have {wanted}, once each and plain")
    return text


def _only(entry: object, names: tuple[str, ...], key: str) -> None:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{key}: is {entry!r}; it must be a mapping with the keys {', '.join(names)}")
    if unknown := [name for name in entry if name not in names]:
        raise ValueError(f"{key}.{unknown[0]}: unknown key; allowed are {', '.join(names)}")


def _text(value: object, key: str) -> str:
    if not isinstance(value, str) or not value.strip():
        given = "missing" if value is None else f"is {value!r}"
        raise ValueError(f"{key}: {given}; it must be text (quote it in YAML)")
    return value
