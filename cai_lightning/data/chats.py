"""A row's dialogue, in whichever of the usual shapes it stands: one function a shape, row -> dialogue.

Message lists are [{"role", "content"}] or ShareGPT's and NeMo's [{"from", "value"}], with the roles system, user or
human, and assistant, gpt or model. A text is Human/Assistant text if it starts with a marker, else one human turn.
Consecutive turns of one role become one, joined by a blank line, since chat templates want roles to alternate. Words
are kept as they stand, white space included. Every function raises ValueError with the cause.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cai_lightning.data.reading import Fields, as_text, text_of, value_of
from cai_lightning.text.dialogue import MARKERS, Dialogue, Message, Role, from_text, human

Chat = Callable[[Fields], Dialogue]

_ROLES: dict[str, Role] = {"system": "system"}
_ROLES |= dict.fromkeys(("human", "user", "prompter"), "human")
_ROLES |= dict.fromkeys(("assistant", "gpt", "model", "bot"), "assistant")
_SHAPES = (("role", "content"), ("from", "value"))
_LOST = ("tool_calls", "function_call")


def column(row: Fields, *, column: str, system: str | None) -> Dialogue:
    """The dialogue under `column`, a message list or a text, behind the system words under `system`, if any there."""
    return with_system(turns(value_of(row, column), column), row, system)


def exchange(row: Fields, *, prompt: str, reply: str, system: str | None) -> Dialogue:
    """The dialogue under `prompt` and the reply under `reply`: TRL's prompt and completion, or any two columns."""
    asked = with_system(turns(value_of(row, prompt), prompt), row, system)
    return (*asked, Message("assistant", reply_of(value_of(row, reply), asked, reply)))


def alpaca(row: Fields) -> Dialogue:
    """The turns of {instruction, input, output} and, if there, {system}: the input follows after a blank line."""
    given = row.get("input") or ""
    words = [text_of(row, "instruction"), *([as_text(given, "input")] if given else [])]
    asked = with_system(human("\n\n".join(words)), row, "system" if row.get("system") else None)
    return (*asked, Message("assistant", text_of(row, "output")))


def tagged(row: Fields, *, column: str, system: str, human: str, assistant: str, end: str) -> Dialogue:
    """The turns of a text that marks them with tags of its own, such as "<|im_start|>user\\n"; `end` closes a turn.

    An open, empty last assistant turn is dropped, and so is an empty system turn.
    """
    text = text_of(row, column)
    roles: dict[str, Role] = {system: "system", human: "human", assistant: "assistant"}
    parts = re.split("(" + "|".join(re.escape(tag) for tag in roles) + ")", text)
    if parts[0] or len(parts) < 3:
        raise ValueError(f"{column!r} must start with one of the tags {', '.join(map(repr, roles))}, is {text!r:.60}")
    found = [Message(roles[tag], words.removesuffix(end)) for tag, words in zip(parts[1::2], parts[2::2], strict=True)]
    if found[-1] == Message("assistant", ""):
        found.pop()
    return _checked([turn for turn in found if turn != Message("system", "")], column)


def turns(value: object, key: str) -> Dialogue:
    """The dialogue that a value says, whichever shape it has; `key` names it in errors."""
    if isinstance(value, str):
        return _from_words(as_text(value, key), key)
    if not isinstance(value, Sequence) or not value:
        raise ValueError(f"{key!r} must be text or a list of messages, is {value!r:.60}")
    return _checked([_message(item, f"{key}[{number}]") for number, item in enumerate(value)], key)


def reply_of(value: object, asked: Dialogue, key: str) -> str:
    """The reply to `asked` that a value says: a text (less one space before it), one assistant message, or a chat.

    A chat, as message list or Human/Assistant text, must repeat `asked` and add one assistant turn.
    """
    if isinstance(value, str) and not value.startswith(tuple(MARKERS.values())):
        return as_text(value, key).removeprefix(" ")
    said = turns([value] if isinstance(value, Mapping) else value, key)
    if len(said) > 1 and said[: len(asked)] != asked:
        raise ValueError(f"{key!r} repeats another prompt than the prompt column; leave the prompt column out")
    rest = said[len(asked) :] if len(said) > 1 else said
    if [turn.role for turn in rest] != ["assistant"]:
        raise ValueError(f"{key!r} must add one assistant turn to the prompt, adds {[turn.role for turn in rest]}")
    return rest[0].content


def with_system(dialogue: Dialogue, row: Fields, system: str | None) -> Dialogue:
    """The dialogue behind the words under `system`; null, a missing or an empty cell add none."""
    words = row.get(system) if system else None
    return _checked([Message("system", as_text(words, str(system))), *dialogue], str(system)) if words else dialogue


def replies(dialogue: Dialogue) -> list[tuple[Dialogue, str]]:
    """Every assistant turn that answers a human one, behind what stands before it. Raises ValueError on none."""
    found = [
        (dialogue[:number], turn.content)
        for number, turn in enumerate(dialogue)
        if turn.role == "assistant" and number and dialogue[number - 1].role == "human"
    ]
    if not found:
        raise ValueError("the dialogue has no assistant turn that answers a human one")
    return found


def joined(dialogue: Sequence[Message]) -> Dialogue:
    """The dialogue with each run of turns of one role as a single turn, blank lines between."""
    return tuple(
        Message(role, "\n\n".join(turn.content for turn in run))
        for role, run in itertools.groupby(dialogue, key=lambda turn: turn.role)
    )


def _from_words(text: str, key: str) -> Dialogue:
    marks = tuple(MARKERS.values())
    if text.startswith(marks):
        return joined(from_text(text))
    if any(mark in text for mark in marks):
        raise ValueError(f"{key!r} holds a Human or Assistant marker but does not start with one; give a message list")
    return human(text)


def _message(item: Any, key: str) -> Message:
    shape = next((shape for shape in _SHAPES if isinstance(item, Mapping) and shape[0] in item), None)
    if shape is None:
        raise ValueError(f"{key} must be a message with role and content (or from and value), is {item!r:.60}")
    if lost := next((name for name in _LOST if item.get(name)), None):
        raise ValueError(f"{key} has {lost}, which dialogues cannot hold; leave such rows out")
    role, words = (value_of(item, name) for name in shape)
    if str(role).lower() not in _ROLES:
        raise ValueError(f"{key} has the role {role!r}; known are {', '.join(_ROLES)}")
    if isinstance(words, list):  # the parts of a message for models that see
        if any(not isinstance(part, Mapping) or part.get("type") != "text" for part in words):
            raise ValueError(f"{key} has parts that are no text, which dialogues cannot hold; leave such rows out")
        words = "".join(text_of(part, "text") for part in words)
    return Message(_ROLES[str(role).lower()], as_text(words, f"{key}.{shape[1]}"))


def _checked(dialogue: Sequence[Message], key: str) -> Dialogue:
    found = joined(dialogue)
    if late := [number for number, turn in enumerate(found) if turn.role == "system" and number]:
        raise ValueError(f"{key!r} has a system turn as its turn {late[0] + 1}; only the first may be one")
    return found
