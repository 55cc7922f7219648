"""The work as both sides read it: models, pairs, prompts and questions, as text and as token ids."""

from __future__ import annotations

import json
import random
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

MAX_TOKENS = 1024  # of a prompt and its reply
LETTERS = ("A", "B")
_LONGEST_PROMPT = 400  # tokens of prompts that are sampled from


class Pair(NamedTuple):
    """A comparison: the record that the package reads, the texts that TRL does, and the ids that both make of them.

    The order of texts and ids is prompt, chosen, rejected; replies begin with a space, and their ids with an end token.
    """

    label: dict[str, Any]
    texts: tuple[str, str, str]
    ids: tuple[list[int], list[int], list[int]]


class Asked(NamedTuple):
    """A prompt and how many tokens are drawn behind it."""

    text: str
    ids: list[int]
    limit: int


class Question(NamedTuple):
    """A prompt behind which one of two letters is due, and the letters' ids."""

    text: str
    ids: list[int]
    letters: tuple[int, int]


def model(work: Path, size: str) -> Path:
    """The folder of a causal language model."""
    return work / "models" / size


def reward_model(work: Path, size: str) -> Path:
    """The folder of a sequence-classification model with one label."""
    return work / "models" / f"{size}-reward"


def pairs(work: Path, size: str, count: int) -> list[Pair]:
    """The first pairs. Raises ValueError where there are fewer."""
    return [Pair(**row) for row in _rows(work, f"pairs-{size}", count)]


def replies(work: Path, size: str, count: int, *, longest: int = 96) -> list[tuple[Pair, Asked]]:
    """Pairs whose prompts are not too long, and their prompts with the lengths of the chosen replies as limits."""
    kept = [pair for pair in pairs(work, size, 3 * count) if len(pair.ids[0]) <= _LONGEST_PROMPT][:count]
    if len(kept) < count:
        raise ValueError(f"{count} prompts of at most {_LONGEST_PROMPT} tokens wanted, {len(kept)} found")
    return [(pair, Asked(pair.texts[0], pair.ids[0], min(longest, max(4, len(pair.ids[1]))))) for pair in kept]


def critiques(work: Path, size: str, count: int) -> list[Asked]:
    """Requests for a critique, all behind the same solved examples."""
    return [Asked(**row) for row in _rows(work, f"critiques-{size}", count)]


def questions(work: Path, size: str, count: int, *, principles: int) -> list[Question]:
    """`principles` questions about each of `count` pairs, the principles taken in turn."""
    found = []
    for place, row in enumerate(_rows(work, f"questions-{size}", count)):
        asked = [Question(one["text"], one["ids"], tuple(row["letters"])) for one in row["asked"]]
        found += [asked[(place + number) % len(asked)] for number in range(principles)]
    return found


def sorted_by_length(rows: list[Pair], size: int, *, both: bool) -> list[Pair]:
    """The rows in batches of `size` of about one length, the batches in random order."""
    order = sorted(rows, key=lambda row: len(row.ids[0]) + max(map(len, row.ids[1 : 3 if both else 2])))
    batches = [order[first : first + size] for first in range(0, len(order), size)]
    random.Random(1).shuffle(batches)
    return [row for batch in batches for row in batch]


def _rows(work: Path, name: str, count: int) -> list[dict[str, Any]]:
    path = work / f"{name}.jsonl"
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in islice(file, count)]
    if len(rows) < count:
        raise ValueError(f"{path}: {count} rows wanted, {len(rows)} found; make the work with more data")
    return rows
