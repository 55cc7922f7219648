"""Multiple-choice questions from the evaluation files of Bai et al. 2022.

A prompt is: a lead-in, a conversation, a blank line and the question, " (A) ..." lines, "The answer is:". The
438-question file puts options in [[[ ]]] and has two newlines before the answer, the others one; options
may hold blank lines and brackets, so they are found by their letters and everything else is kept as it stands.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cai_lightning.data.reading import json_lines, text_field
from cai_lightning.data.sources import resolve
from cai_lightning.text.artifacts import Source
from cai_lightning.text.dialogue import MARKERS
from cai_lightning.text.records import fingerprint

_ANSWERS = ("\n\nThe answer is:", "\nThe answer is:")


@dataclass(frozen=True)
class Question:
    """A question: stem + options + answer line; `gold` is the index of the right option.

    `options` are the texts after the letters, brackets included. `cluster` names the conversation: the 438
    questions come from 188 conversations and are resampled by them.
    """

    id: str
    stem: str
    options: tuple[str, ...]
    answer_line: str
    gold: int
    cluster: str

    @property
    def prompt(self) -> str:
        """The text after which a letter follows."""
        lines = (f"\n{letter} {option}" for letter, option in zip(self.letters, self.options, strict=True))
        return self.stem + "".join(lines) + self.answer_line

    @property
    def letters(self) -> tuple[str, ...]:
        """The continuations to score: " (A)", " (B)", one an option."""
        return tuple(f" ({letter})" for letter in string.ascii_uppercase[: len(self.options)])

    def swapped(self) -> Question:
        """The same question with the options in reverse order."""
        return replace(self, options=self.options[::-1], gold=len(self.options) - 1 - self.gold)


def multiple_choice(*, path: Source) -> list[Question]:
    """The questions of a file in file order; `NAME.jsonl` also finds `NAME.shared.jsonl`.

    Needs `prompt`, `corrects` (one letter) and `incorrects` (all others) a line. The parts put together give each
    prompt byte for byte. Raises ValueError with file:line and cause.
    """
    return [_question(row, place) for place, row in json_lines(resolve(Path(path).parent, Path(path).name))]


def _question(row: dict[str, Any], place: str) -> Question:
    prompt = text_field(row, "prompt", place)
    gold, count = _gold(row, place)
    answer_line = next((line for line in _ANSWERS if prompt.endswith(line)), None)
    if answer_line is None:
        raise ValueError(f"{place}: the prompt must end with 'The answer is:' on a line of its own")
    stem = prompt.removesuffix(answer_line)
    options: list[str] = []
    for letter in reversed(string.ascii_uppercase[:count]):
        mark = f"\n ({letter}) "
        if stem.count(mark) != 1:
            raise ValueError(f"{place}: {mark!r} stands {stem.count(mark)} times in the prompt; it must stand once")
        stem, _, option = stem.rpartition(mark)
        options.insert(0, option)
    start, end = stem.find(MARKERS["human"]), stem.rfind("\n\n")
    if not 0 <= start < end:
        raise ValueError(f"{place}: no conversation before the question; it must start with {MARKERS['human']!r}")
    return Question(fingerprint(prompt), stem, tuple(options), answer_line, gold, fingerprint(stem[start:end].strip()))


def _gold(row: dict[str, Any], place: str) -> tuple[int, int]:
    """The index of the right letter and the number of letters."""
    for key in ("corrects", "incorrects"):
        if not isinstance(row.get(key), list):
            raise ValueError(f"{place}: {key!r} must be a list of letters, is {row.get(key)!r:.60}")
    corrects, letters = row["corrects"], [*row["corrects"], *row["incorrects"]]
    wanted = [f" ({letter})" for letter in string.ascii_uppercase[: len(letters)]]
    if len(corrects) != 1 or len(letters) < 2 or sorted(map(str, letters)) != wanted:
        raise ValueError(f"{place}: corrects and incorrects must be one and the others of {wanted}, are {letters}")
    return wanted.index(corrects[0]), len(letters)
