"""Multiple-choice questions from the evaluation files of Bai et al. 2022.

A prompt is: a lead-in, a conversation, a blank line and the question, " (A) ..." lines, "The answer is:". The
438-question file puts options in [[[ ]]] and has two newlines before the answer, the others one; options
may hold blank lines and brackets, so they are found by their letters and everything else is kept as it stands.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cai_lightning.data.reading import json_lines, text_field, text_of, usable
from cai_lightning.data.tables import file_table
from cai_lightning.text.artifacts import Source
from cai_lightning.text.dialogue import MARKERS
from cai_lightning.text.records import fingerprint

_ANSWERS = ("\n\nThe answer is:", "\nThe answer is:")
_TURN = re.compile(r"^\s*(Human|Assistant):", re.MULTILINE)


@dataclass(frozen=True)
class Question:
    """A question: lead + conversation + blank line + principle + options + answer line; `gold` is the right option.

    `conversation` begins with a marker, `principle` is what is asked about it; `options` are the texts after the
    letters, brackets included. `cluster` names the conversation: the 438 questions come from 188 conversations and
    are resampled by them.
    """

    id: str
    lead: str
    conversation: str
    principle: str
    options: tuple[str, ...]
    answer_line: str
    gold: int
    cluster: str

    @property
    def prompt(self) -> str:
        """The text after which a letter follows."""
        return f"{self.lead}{self.conversation}\n\n{self.principle}{self.lines}{self.answer_line}"

    @property
    def lines(self) -> str:
        """The lettered options, a newline before each."""
        return "".join(f"\n{letter} {option}" for letter, option in zip(self.letters, self.options, strict=True))

    @property
    def letters(self) -> tuple[str, ...]:
        """The continuations to score: " (A)", " (B)", one an option."""
        return tuple(f" ({letter})" for letter in string.ascii_uppercase[: len(self.options)])

    @property
    def solved(self) -> str:
        """The prompt with its right letter: an example to stand before other questions."""
        return self.prompt + self.letters[self.gold]

    def swapped(self) -> Question:
        """The same question with the options in reverse order."""
        return replace(self, options=self.options[::-1], gold=len(self.options) - 1 - self.gold)

    def asked(self, template: str, *, short: bool) -> str:
        """The question in another form: a template with {conversation}, {principle} and {lines}.

        `short` writes the turns as "H: ..." and "A: ...", as the released chain-of-thought examples do.
        """
        conversation = shortened(self.conversation) if short else self.conversation
        return template.format(conversation=conversation, principle=self.principle, lines=self.lines)


def multiple_choice(*, path: Source) -> list[Question]:
    """The questions of a file in file order; `NAME.jsonl` also finds `NAME.shared.jsonl`.

    Needs `prompt`, `corrects` (one letter) and `incorrects` (all others) a line. The parts put together give each
    prompt byte for byte. Raises ValueError with file:line and cause.
    """
    return [_question(row, place) for place, row in json_lines(resolve(Path(path).parent, Path(path).name))]


def resolve(root: Path, name: str) -> Path:
    """`root/name`, or the same with ".shared" before the suffix, as subsets of a file are named.

    Raises ValueError when neither exists.
    """
    stem, dot, suffix = name.partition(".")
    candidates = [Path(root) / name, Path(root) / f"{stem}.shared{dot}{suffix}"]
    for path in candidates:
        if path.exists():
            return path
    raise ValueError(f"{candidates[0]}: no such file, nor {candidates[1].name}")


def example_texts(*, path: Source, questions: Source) -> list[str]:
    """The examples under `prompt` in a table file, each begun by a blank line.

    "{}" in an example becomes what the questions of the file `questions` ask. Raises ValueError with file, row and
    cause, and where those questions do not all ask the same.
    """
    table = file_table(path=path, pattern=None)
    texts = list(usable(table, lambda row: text_of(row, "prompt"), skip_bad=False, dropped=Counter(), skipped=[]))
    asked = {question.principle for question in multiple_choice(path=questions)}
    if len(asked) != 1:
        raise ValueError(f"{questions}: asks {len(asked)} different things; the examples of {path} take one principle")
    (principle,) = asked
    return ["\n\n" + text.lstrip("\n").replace("{}", principle) for text in texts]


def first_conversations(*, questions: Sequence[Question], count: int | None) -> list[Question]:
    """The questions about `count` conversations, first in the order of their hashes; null takes all."""
    names = sorted({question.cluster for question in questions})[:count]
    return [question for question in questions if question.cluster in names]


def shortened(text: str) -> str:
    """The text with its turns marked "H:" and "A:" in place of "Human:" and "Assistant:"."""
    return _TURN.sub(lambda mark: mark.group().replace(mark[1], mark[1][0]), text)


def without_examples(questions: Sequence[Question], few_shots: Sequence[str]) -> tuple[list[Question], list[str]]:
    """The questions whose conversation stands in no few-shot example, and the ids of the others.

    Turns may be marked in full or as H: and A:, and white space may differ; a conversation that an example goes on
    with counts as well. All six released chain-of-thought examples are conversations of the 438 questions: 19 rows.
    """
    shown = [f"\n{_plain(text)}\n" for text in few_shots]
    kept = [question for question in questions if not any(f"\n{_plain(question.conversation)}\n" in t for t in shown)]
    ids = {question.id for question in kept}
    return kept, [question.id for question in questions if question.id not in ids]


def _plain(text: str) -> str:
    """Short turns, one space between words, one newline between lines."""
    return "\n".join(line for line in (" ".join(line.split()) for line in shortened(text).splitlines()) if line)


def examples(questions: Sequence[Question], *, count: int) -> tuple[list[Question], list[Question]]:
    """`count` questions to show solved, and those that may still be asked: none of a shown conversation.

    Taken in order of their ids, which are hashes, from different conversations and from the right options in turn, so
    that no letter is favoured. Raises ValueError where there are too few.
    """
    waiting = sorted(questions, key=lambda question: question.id)
    shown: list[Question] = []
    while len(shown) < count and waiting:
        used = [question.gold for question in shown]
        first = min(waiting, key=lambda question: used.count(question.gold))
        shown.append(first)
        waiting = [question for question in waiting if question.cluster != first.cluster]
    clusters = {question.cluster for question in shown}
    rest = [question for question in questions if question.cluster not in clusters]
    if len(shown) < count or not rest:
        raise ValueError(f"few-shots: {count} examples asked of {len(questions)} questions; lower their number")
    return shown, rest


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
    conversation = stem[start:end].rstrip("\n")  # of three newlines the third begins the question, as principles do
    return Question(
        id=fingerprint(prompt),
        lead=stem[:start],
        conversation=conversation,
        principle=stem[start + len(conversation) + 2 :],
        options=tuple(options),
        answer_line=answer_line,
        gold=gold,
        cluster=fingerprint(conversation.strip()),
    )


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
