"""Reasoning before the answer: the question of a comparison, what the model thinks of it, and where the letter is due.

Bai et al. 2022, section 4.1 (chain of thought): the question stands in a human turn, the assistant thinks "step by
step", and the answer line stands in the next human turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cai_lightning.constitution.styles import Step, Steps, after, marked, more, turn
from cai_lightning.text.dialogue import MARKERS, Dialogue

LETTERS = (" (A)", " (B)")
SLOT = "{}"


@dataclass(frozen=True)
class Reasoning:
    """How a constitution lets a model think before it answers.

    `template` (a str.format template, fields as in a comparison template) + `opening` + the sampled thought + `answer`
    is the text before the letter. `human` and `assistant` mark the turns of the conversation in it. A thought ends at
    the model's end token or at a `stop` string. A few-shot text holds all of this with its letter, and the slot "{}"
    where its principle goes.
    """

    template: str
    human: str
    assistant: str
    opening: str
    answer: str
    stop: tuple[str, ...]
    few_shots: tuple[str, ...]

    def __post_init__(self) -> None:
        for number, text in enumerate(self.few_shots):
            place = f"reasoning.few_shots[{number}]"
            if text.count(SLOT) != 1:
                raise ValueError(f"{place}: must hold the slot {SLOT!r} for its principle once")
            if text.count(self.opening) != 1 or not text.endswith(tuple(self.answer + letter for letter in LETTERS)):
                raise ValueError(f"{place}: must hold {self.opening!r} once and end with {self.answer!r} and a letter")

    def question(self, dialogue: Dialogue, principle: str, first: str, second: str) -> Steps:
        """The comparison with `first` in slot A, up to where the model is to think."""
        marks = {"system": "", "human": self.human, "assistant": self.assistant}
        conversation = "".join(marked(said.role, marks[said.role], said.content).text for said in dialogue)
        asked = self.template.format(conversation=conversation, principle=principle, a=first, b=second)
        return turn("human", asked), turn("assistant", self.opening)

    def thought(self, words: str) -> Steps:
        """What follows the question: the words of a thought, and the answer line, after which a letter is due."""
        return thought(words, answer=self.answer)

    def examples(self, principles: Sequence[str], _key: str) -> tuple[Steps, ...]:
        """The few-shot texts with their principles in the slots; their letters are fixed."""
        shown = [text.replace(SLOT, principle, 1) for text, principle in zip(self.few_shots, principles, strict=True)]
        return tuple(example(text, opening=self.opening, answer=self.answer) for text in shown)


def thought(words: str, *, answer: str) -> Steps:
    """The words of a thought, and the answer line, after which a letter is due."""
    lead = " " if words and not words[0].isspace() else ""
    return more(lead + words.rstrip()), _due(answer)


def example(text: str, *, opening: str, answer: str) -> Steps:
    """The steps of a solved example: question, `opening`, thought, `answer`, letter; joined again they are the text.

    Raises ValueError where the text is not so.
    """
    asked, mark, rest = text.rpartition(opening)
    letter = rest[-len(LETTERS[0]) :]
    if not (mark and rest.endswith(answer + letter)):
        raise ValueError(f"an example must hold {opening!r} and end with {answer!r} and a letter: {text[-60:]!r}")
    steps = (turn("human", asked), turn("assistant", opening), more(rest.removesuffix(answer + letter)), _due(answer))
    return *steps, after(steps, letter)


def _due(answer: str) -> Step:
    return turn("human", answer) if answer.startswith(MARKERS["human"]) else more(answer)
