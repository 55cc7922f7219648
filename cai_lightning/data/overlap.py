"""Leakage: what of an evaluation set stands in training data, whole, by its first turn, or nearly.

Rows are compared as conversations: words without case, punctuation or markers, so that two files agree whatever their
format. The measure of "nearly" is containment: the share of an evaluation conversation's distinct word n-grams that one
training conversation has too (Broder 1997, "On the resemblance and containment of documents"). It does not fall when
the training text goes on longer, as resemblance would. The index is over the evaluation rows, so memory grows with
those alone; the n-grams themselves are kept, so nothing depends on a hash.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from cai_lightning.data.reading import Read
from cai_lightning.text.dialogue import MARKERS, Dialogue, Message, from_text, human

# scripts without spaces between words go one character a word
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
Row = TypeVar("Row")
Words = tuple[str, ...]


@dataclass(frozen=True)
class Leak:
    """A training row that has something of an evaluation row; rows are counted from 0 within their set.

    `conversation`: the same turns throughout. `first_turn`: the same first human turn. `containment`: the share of the
    evaluation row's n-grams, in [0, 1].
    """

    evaluation: str
    evaluation_row: int
    train: str
    train_row: int
    conversation: bool
    first_turn: bool
    containment: float


@dataclass(frozen=True)
class Counts:
    """How many rows of an evaluation set leak into a training set, by kind, and how many training rows hold them."""

    conversations: int
    first_turns: int
    near: int
    train_rows: int


def leaks(
    train: Mapping[str, Sequence[Any]], evaluation: Mapping[str, Sequence[Any]], *, words: int, containment: float
) -> list[Leak]:
    """All pairs of rows that share a conversation, a first turn, or `containment` of their n-grams of `words` words.

    Rows are anything that `conversations` knows; of a comparison both sides count, the larger share wins. A text
    shorter than `words` is one n-gram. Ordered by set and row of the evaluation, then of the training.
    """
    index = _Index(evaluation, words)
    found = [
        leak
        for name, rows in train.items()
        for number, row in enumerate(rows)
        for leak in index.matches(row, name, number, containment)
    ]
    place = {name: i for i, name in enumerate((*evaluation, *train))}
    return sorted(
        found, key=lambda leak: (place[leak.evaluation], leak.evaluation_row, place[leak.train], leak.train_row)
    )


def counts(found: Iterable[Leak], *, containment: float) -> dict[tuple[str, str], Counts]:
    """The counts of every (evaluation set, training set) that share anything; distinct rows, each kind by itself."""
    pairs: defaultdict[tuple[str, str], list[Leak]] = defaultdict(list)
    for leak in found:
        pairs[leak.evaluation, leak.train].append(leak)
    return {
        pair: Counts(
            conversations=len({leak.evaluation_row for leak in some if leak.conversation}),
            first_turns=len({leak.evaluation_row for leak in some if leak.first_turn}),
            near=len({leak.evaluation_row for leak in some if leak.containment >= containment}),
            train_rows=len({leak.train_row for leak in some}),
        )
        for pair, some in pairs.items()
    }


def duplicates(rows: Sequence[Any]) -> list[list[int]]:
    """The groups of rows of one set that are the same conversations, as row numbers, each group in order."""
    groups: defaultdict[object, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        groups[tuple(_turns(dialogue) for dialogue in conversations(row))].append(number)
    return [group for group in groups.values() if len(group) > 1]


def without_overlap(*, reader: Any, against: list[Any], words: int, containment: float, first_turns: bool) -> Read[Any]:
    """The rows of a reader that nothing in `against` leaks into, the others counted as `leaked`.

    A shared first turn counts where `first_turns` says so. The reader's own window is taken first, so fewer rows than
    its limit may be left.
    """
    given = reader if isinstance(reader, Read) else Read(list(reader), {})
    evaluation = {str(i): getattr(rows, "rows", rows) for i, rows in enumerate(against)}
    found = leaks({"": given.rows}, evaluation, words=words, containment=containment)
    gone = {leak.train_row for leak in found if first_turns or leak.conversation or leak.containment >= containment}
    kept = [row for number, row in enumerate(given.rows) if number not in gone]
    return replace(given, rows=kept, dropped={**given.dropped, "leaked": given.dropped.get("leaked", 0) + len(gone)})


def conversations(row: Any) -> tuple[Dialogue, ...]:
    """The conversations that a row holds: one, or both sides of a comparison.

    A text that starts with a Human or Assistant marker is a dialogue, any other one human turn. Raises ValueError for
    what is no text, dialogue, question, nor row with a prompt.
    """
    text = getattr(row, "conversation", row)
    if isinstance(text, str):
        whole = "\n\n" + text.lstrip("\n")
        return (from_text(whole) if whole.startswith(tuple(MARKERS.values())) else human(text),)
    if isinstance(row, tuple):
        return (row,)
    prompt: Dialogue | None = getattr(getattr(row, "prompt", row), "dialogue", None)
    if prompt is None:
        raise ValueError(f"a {type(row).__name__} holds no conversation; give texts, dialogues, prompts or questions")
    replies = [reply for name in ("a", "b", "text") if isinstance(reply := getattr(row, name, None), str)]
    return tuple((*prompt, Message("assistant", reply)) for reply in replies) or (prompt,)


def split_words(text: str) -> Words:
    """The words of a text without case, punctuation and forms of the same letter; a text without any is one word."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return tuple(_WORD.findall(plain)) or tuple(plain.split())


def grams(text: Words, words: int) -> frozenset[Words]:
    """The distinct runs of `words` words; of a shorter text the text itself, of an empty one nothing."""
    if len(text) <= words:
        return frozenset([text] if text else [])
    return frozenset(zip(*(text[start:] for start in range(words)), strict=False))


def _turns(dialogue: Dialogue) -> tuple[tuple[str, Words], ...]:
    return tuple((turn.role, split_words(turn.content)) for turn in dialogue)


def _first_turn(dialogue: Dialogue) -> Words:
    return next((split_words(turn.content) for turn in dialogue if turn.role == "human"), ())


class _Index:
    """Evaluation rows by their turns, first turns and n-grams."""

    def __init__(self, evaluation: Mapping[str, Sequence[Any]], words: int) -> None:
        self.words = words
        self.rows: list[tuple[str, int]] = []
        self.sizes: list[int] = []
        self.by_turns: defaultdict[object, set[int]] = defaultdict(set)
        self.by_first: defaultdict[Words, set[int]] = defaultdict(set)
        self.by_gram: defaultdict[Words, list[int]] = defaultdict(list)
        for name, rows in evaluation.items():
            for number, row in enumerate(rows):
                for dialogue in conversations(row):
                    self._add(dialogue, name, number)

    def _add(self, dialogue: Dialogue, name: str, number: int) -> None:
        if not (runs := self._grams(dialogue)):
            return
        place = len(self.rows)
        self.rows.append((name, number))
        self.sizes.append(len(runs))
        self.by_turns[_turns(dialogue)].add(place)
        if first := _first_turn(dialogue):
            self.by_first[first].add(place)
        for run in runs:
            self.by_gram[run].append(place)

    def _grams(self, dialogue: Dialogue) -> frozenset[Words]:
        return grams(tuple(word for turn in dialogue for word in split_words(turn.content)), self.words)

    def matches(self, row: Any, train: str, train_row: int, containment: float) -> list[Leak]:
        """The leaks of one training row: for each evaluation row the most that any of its conversations share."""
        best: dict[tuple[str, int], Leak] = {}
        for dialogue in conversations(row):
            if not (runs := self._grams(dialogue)):
                continue
            same, first = self.by_turns.get(_turns(dialogue), set()), self.by_first.get(_first_turn(dialogue), set())
            hits = Counter(place for run in runs for place in self.by_gram.get(run, ()))
            near = {place for place, count in hits.items() if count / self.sizes[place] >= containment}
            for place in same | first | near:
                share = hits[place] / self.sizes[place]
                leak = Leak(*self.rows[place], train, train_row, place in same, place in first, share)
                key = self.rows[place]
                best[key] = _joined(best[key], leak) if key in best else leak
        return list(best.values())


def _joined(one: Leak, other: Leak) -> Leak:
    return replace(
        one,
        conversation=one.conversation or other.conversation,
        first_turn=one.first_turn or other.first_turn,
        containment=max(one.containment, other.containment),
    )
