"""All that is wrong with a constitution at once: what cannot be made, what is half there, what reads oddly.

A block is what `constitution` takes: principles, few-shots, templates. Errors are those that `constitution` raises;
each part is tried by itself among parts that are right, so that every fault is found and not the first one alone.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from cai_lightning.constitution import wordings
from cai_lightning.constitution.principles import FIELDS, Constitution, constitution
from cai_lightning.constitution.wordings import Finding, Wording
from cai_lightning.text.dialogue import to_text

KINDS = ("critique", "revision", "comparison")
_SOUND: dict[str, Any] = {
    "name": "x",
    "principles": [{"id": "x", "comparison": "x"}],
    "critique_few_shots": [],
    "comparison_few_shots": [],
    "comparison_template": "".join(f"{{{field}}}" for field in FIELDS),
}
_STEPS = ("\n\nCritiqueRequest:", "\n\nCritique:", "\n\nRevisionRequest:", "\n\nRevision:")
_LETTER = re.compile(r"\(([A-Z])\)\s*\Z")


def remarks(block: Mapping[str, Any], *, near: float) -> list[Finding]:
    """What is to be said about a block that need not hinder `constitution`.

    `near`: the share of words from which two wordings are alike, see `wordings.repeats`.
    """
    said = _wordings(block)
    found = [
        *_halves(block),
        *wordings.repeats(said, near=near),
        *(finding for one in said for finding in (*wordings.direction(one), *wordings.tags(one))),
        *(finding for key, text in texts(block) for finding in wordings.encoding(key, text)),
        *wordings.options(said, dict(texts(block))),
        *_templates(dict(texts(block))),
        *_critique_steps(block),
        *(finding for key, value in block.items() if key != "principles" for finding in _letters(key, value)),
    ]
    return list(dict.fromkeys(found))


def block_of(built: Constitution) -> dict[str, Any]:
    """The block that makes a constitution."""
    principles = [
        {"id": one.id} | {kind: words for kind in KINDS if (words := getattr(one, kind)) is not None}
        for one in built.principles
    ]
    examples = [
        {"dialogue": to_text(one.dialogue), "better": one.better, "worse": one.worse}
        for one in built.comparison_few_shots
    ]
    return {**dataclasses.asdict(built), "principles": principles, "comparison_few_shots": examples}


def structure(block: Mapping[str, Any]) -> list[Finding]:
    """Everything that `constitution` raises about a block."""
    wanted = inspect.signature(constitution).parameters
    needed = [key for key, parameter in wanted.items() if parameter.default is parameter.empty]
    found = [Finding(key, f"unknown key; known are {', '.join(wanted)}", True) for key in block if key not in wanted]
    found += [Finding(key, "missing", True) for key in needed if key not in block]
    for key in wanted:
        for value, tried, meant in _alone(key, block[key]) if key in block else ():
            found += _raised({**_SOUND, key: value}, tried, meant)
    found += _same_ids(block)
    return list(dict.fromkeys(found)) or _raised(dict(block), "", "")


def _alone(key: str, value: Any) -> Iterator[tuple[Any, str, str]]:
    """A part with one entry of its lists at a time: the part, the entry's key in it, and its key in the block."""
    if isinstance(value, Mapping):
        bare = {name: [] if isinstance(item, list) else item for name, item in value.items()}
        yield bare, key, key
        for name, items in value.items():
            for entry, tried, meant in _alone(f"{key}.{name}", items) if isinstance(items, list) and items else ():
                yield {**bare, name: entry}, tried, meant
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield [item], f"{key}[0]", f"{key}[{index}]"
    else:
        yield value, key, key


def _raised(block: dict[str, Any], tried: str, meant: str) -> list[Finding]:
    try:
        constitution(**block)
    except (ValueError, TypeError) as error:
        key, colon, problem = str(error).partition(": ")
        place = meant + key.removeprefix(tried) if key.startswith(tried) else key
        return [Finding(place, problem, True) if colon else Finding(meant, str(error), True)]
    return []


def _entries(block: Mapping[str, Any], key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    values = block.get(key)
    for index, entry in enumerate(values if isinstance(values, Sequence) and not isinstance(values, str) else ()):
        if isinstance(entry, Mapping):
            yield f"{key}[{index}]", entry


def _same_ids(block: Mapping[str, Any]) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for key, entry in _entries(block, "principles"):
        id = entry.get("id")
        if isinstance(id, str) and first.setdefault(id, key) != key:
            yield Finding(f"{key}.id", f"{id!r} is the id of {first[id]} too; ids must be unique", True)


def _wordings(block: Mapping[str, Any]) -> list[Wording]:
    return [
        Wording(f"{key}.{kind}", kind, entry[kind])
        for key, entry in _entries(block, "principles")
        for kind in KINDS
        if isinstance(entry.get(kind), str)
    ]


def texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a block with its key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from texts(item, f"{key}.{name}".lstrip("."))
    elif isinstance(value, Sequence):
        for index, item in enumerate(value):
            yield from texts(item, f"{key}[{index}]")


def _halves(block: Mapping[str, Any]) -> Iterator[Finding]:
    entries = [entry for _, entry in _entries(block, "principles")]
    for kind, stage in (("revision", "revise with"), ("comparison", "compare by")):
        if entries and not any(entry.get(kind) for entry in entries):
            yield Finding("principles", f"none has a {kind}, so there is nothing to {stage}", False)


def _templates(said: Mapping[str, str]) -> Iterator[Finding]:
    for key in ("comparison_template", "reasoning.template"):
        places = [said[key].find(part) for part in ("(A)", "{a}", "(B)", "{b}")] if key in said else []
        if -1 in places or places != sorted(places):
            yield Finding(key, "does not show (A) before {a}, then (B) before {b}, but those letters are scored", False)
    for key in ("comparison_template", "reasoning.answer"):
        if said.get(key, "") != said.get(key, "").rstrip():
            yield Finding(key, "ends with white space, but the letters that follow begin with a space", False)


def _critique_steps(block: Mapping[str, Any]) -> Iterator[Finding]:
    shots = block.get("critique_few_shots")
    for index, text in enumerate(shots if isinstance(shots, Sequence) else ()):
        places = [text.find(step) for step in _STEPS] if isinstance(text, str) else []
        if -1 in places or places != sorted(places):
            steps = ", ".join(step.strip() for step in _STEPS)
            yield Finding(f"critique_few_shots[{index}]", f"does not show the four steps in order: {steps}", False)


def _letters(key: str, value: Any) -> Iterator[Finding]:
    """Lists of solved examples with fixed letters, of which one is right more often."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _letters(f"{key}.{name}", item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        golds = Counter(m[1] for text in value if isinstance(text, str) and (m := _LETTER.search(text)))
        if golds and abs(golds["A"] - golds["B"]) > 1:
            yield Finding(
                key, f"(A) is right {golds['A']} times, (B) {golds['B']}; a judge learns to favour one", False
            )


def unknown_words(block: Mapping[str, Any], known: Collection[str]) -> list[Finding]:
    """The words of principles that a vocabulary of words, each with the white space before it, does not have."""
    found = []
    for one in _wordings(block):
        # comparisons stand on a line of their own
        text = ("\n\n" if one.kind == "comparison" else " ") + one.text
        unknown = [piece.strip() for piece in re.findall(r"\s*\S+", text) if piece not in known]
        if unknown:
            found.append(Finding(one.key, f"no word of this world: {', '.join(dict.fromkeys(unknown))}", True))
    return found
