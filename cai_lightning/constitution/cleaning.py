"""What surrounds a critique or a revision in a model's reply, taken off by stated rules, one after the other.

A chat model writes "Sure, here is the revised response:" before it, notes after it, quotes around it, and so on. Every
rule has a name, so that a row can say what was done to it; the reply as it was written is kept beside the cleaned one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

KEYS = ("name", "pattern", "replacement")


@dataclass(frozen=True)
class Rule:
    """Replaces the first match of a pattern; `name` says what that takes off."""

    name: str
    pattern: re.Pattern[str]
    replacement: str


@dataclass(frozen=True)
class Cleaning:
    """The rules for critiques and for revisions, in the order in which they act; without rules nothing is done."""

    critique: tuple[Rule, ...]
    revision: tuple[Rule, ...]


def cleaning(*, critique: Sequence[Mapping[str, str]], revision: Sequence[Mapping[str, str]]) -> Cleaning:
    """The rules that a YAML block describes. Raises ValueError, one line naming the rule that is wrong."""
    return Cleaning(_rules(critique, "critique"), _rules(revision, "revision"))


def cleaned(text: str, rules: Sequence[Rule]) -> tuple[str, tuple[str, ...]]:
    """The text after all rules, and the names of those that changed it; a rule never takes the whole text away."""
    fired = []
    for rule in rules:
        left = rule.pattern.sub(rule.replacement, text, count=1).strip()
        if left and left != text:
            fired.append(rule.name)
            text = left
    return text, tuple(fired)


def _rules(entries: Sequence[Mapping[str, str]], key: str) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for number, entry in enumerate(entries):
        place = f"cleaning.{key}[{number}]"
        if set(entry) != set(KEYS):
            raise ValueError(f"{place}: has the keys {', '.join(entry)}; it must have {', '.join(KEYS)}")
        try:
            pattern = re.compile(entry["pattern"])
            pattern.sub(entry["replacement"], "")
        except (re.error, TypeError) as error:
            raise ValueError(f"{place}.pattern: {error}") from None
        if entry["name"] in (rule.name for rule in rules):
            raise ValueError(f"{place}.name: {entry['name']!r} occurs twice; a rule's name must be unique")
        rules.append(Rule(entry["name"], pattern, entry["replacement"]))
    return tuple(rules)
