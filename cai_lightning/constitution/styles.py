"""How solved examples and a question are put to a model: as one text, or as the turns of a chat.

What is asked is a sequence of steps; each knows how it reads in running text and as a turn. A style joins them: `text`
is Human/Assistant text, for base models, byte for byte the format of Bai et al. 2022. `turns` and `system` give a
dialogue, which the model's own chat template writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cai_lightning.text.backends import Prompt
from cai_lightning.text.dialogue import MARKERS, Dialogue, Message, Role, turn_text

_MARK = re.compile(r"\n\n(Human|Assistant|CritiqueRequest|Critique|RevisionRequest|Revision):")
_HUMAN = ("Human", "CritiqueRequest", "RevisionRequest")


@dataclass(frozen=True)
class Step:
    """What one speaker says: `text` as it stands in running text, `words` as the turn of a chat.

    A step without role goes on inside the turn before it, as its text stands.
    """

    role: Role | None
    text: str
    words: str


Steps = tuple[Step, ...]
Style = Callable[[Sequence[Steps], Steps], Prompt]
"""(solved examples, what is asked) -> the prompt. What is asked ends where the model is to go on."""


def said(dialogue: Dialogue) -> Steps:
    """The turns of a dialogue."""
    return tuple(Step(turn.role, turn_text(turn.role, turn.content), turn.content) for turn in dialogue)


def marked(role: Role, marker: str, words: str) -> Step:
    """Words behind a marker of the format, such as "\\n\\nCritiqueRequest:"; without words the marker is open."""
    return Step(role, marker + (" " + words if words else ""), words)


def turn(role: Role, text: str) -> Step:
    """A text that brings its own marker or none; as a turn it is the words without marker and space around them."""
    return Step(role, text, text.strip().removeprefix(MARKERS[role].strip()).strip())


def more(text: str) -> Step:
    """A text that goes on inside the turn before it."""
    return Step(None, text, text)


def after(steps: Steps, text: str) -> Step:
    """A text that the model would have answered with: inside its turn if it is open, else as a turn of its own."""
    last = next((step.role for step in reversed(steps) if step.role), None)
    return more(text) if last == "assistant" else turn("assistant", text)


def solved(text: str) -> Steps:
    """The steps of a critique example, by its markers; joined again they are the text, byte for byte."""
    marks = list(_MARK.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return tuple(
        Step(
            "human" if mark[1] in _HUMAN else "assistant",
            text[mark.start() : end],
            text[mark.end() : end].removeprefix(" "),
        )
        for mark, end in zip(marks, ends, strict=True)
    )


def text(examples: Sequence[Steps], asked: Steps) -> str:
    """Running text, the examples first."""
    return "".join(step.text for steps in (*examples, asked) for step in steps)


def turns(examples: Sequence[Steps], asked: Steps, *, system: str | None) -> Dialogue:
    """A dialogue in which the examples are turns that were taken before; `system` is said first, null says nothing."""
    first = (Message("system", system),) if system else ()
    return (*first, *(message for steps in (*examples, asked) for message in _messages(steps)))


def system(examples: Sequence[Steps], asked: Steps, *, heading: str, system: str | None) -> Dialogue:
    """A dialogue with the examples as running text in the system message, under `heading` and after `system`."""
    shown = text(examples, ()).strip("\n")
    words = "\n\n".join([*([system] if system else []), *([f"{heading}\n\n{shown}"] if shown else [])])
    return turns((), asked, system=words)


def _messages(steps: Steps) -> list[Message]:
    """The steps as turns; an open one at the end, without words, is left to the model's format."""
    found: list[Message] = []
    for step in steps:
        if step.role is None:
            found[-1] = Message(found[-1].role, found[-1].content + step.text)
        else:
            found.append(Message(step.role, step.words))
    if found and found[-1] == Message("assistant", ""):
        found.pop()
    return found
