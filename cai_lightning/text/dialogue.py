"""Dialogues and their Human/Assistant text, both ways.

The text form is the one of the HH and Constitutional-AI releases: every turn is "\\n\\nHuman: ..." or
"\\n\\nAssistant: ...". Only the double newline makes a marker; role words inside a reply are text. A dialogue may begin
with a system turn; the text form has no marker for it, so its words stand in front as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "human", "assistant"]
MARKERS: dict[Role, str] = {"human": "\n\nHuman:", "assistant": "\n\nAssistant:"}
_TURN = re.compile(r"\n\n(Human|Assistant):")


@dataclass(frozen=True)
class Message:
    """One turn: who speaks, and the words without marker and without the one space that follows it."""

    role: Role
    content: str


Dialogue = tuple[Message, ...]


def human(content: str) -> Dialogue:
    """The dialogue of a single human turn."""
    return (Message("human", content),)


def turn_text(role: Role, content: str) -> str:
    """One turn as text: marker, one space, content (an empty turn is the bare marker); a system turn is its words."""
    if role == "system":
        return content
    return MARKERS[role] + (" " + content if content else "")


def to_text(dialogue: Sequence[Message]) -> str:
    """The dialogue as Human/Assistant text, without an open turn at the end."""
    return "".join(turn_text(message.role, message.content) for message in dialogue)


def prompt_text(dialogue: Sequence[Message]) -> str:
    """The text after which a model writes the next assistant turn; it ends in "\\n\\nAssistant:".

    A dialogue that ends with an assistant turn is the text after which that turn goes on.
    """
    opened = dialogue and dialogue[-1].role == "assistant"
    return to_text(dialogue) + ("" if opened else MARKERS["assistant"])


def reply_text(reply: str) -> str:
    """A reply as it follows `prompt_text`: one space, then the words."""
    return " " + reply


def from_text(text: str) -> Dialogue:
    """The turns of a Human/Assistant text; an open, empty last assistant turn is dropped.

    One space after the marker belongs to the marker; everything else is content, white space at the end included.
    Raises ValueError when the text does not start with a marker.
    """
    marks = list(_TURN.finditer(text))
    if not marks or marks[0].start() != 0:
        raise ValueError(f"text does not start with a Human or Assistant marker: {text[:40]!r}")
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    turns = []
    for mark, end in zip(marks, ends, strict=True):
        role: Role = "human" if mark.group(1) == "Human" else "assistant"
        turns.append(Message(role, text[mark.end() : end].removeprefix(" ")))
    if turns[-1] == Message("assistant", ""):
        turns.pop()
    return tuple(turns)
