"""Dialogues as a chat template writes them, and what it writes around a reply."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from cai_lightning.text.dialogue import Dialogue, Message, human

# A template may write today's date, but what a model reads must not depend on the day: for templates it is this one.
_TODAY = {"%Y": "2024", "%y": "24", "%m": "07", "%B": "July", "%b": "Jul", "%d": "26", "%A": "Friday", "%a": "Fri"}
_CALENDAR = (
    "{% macro strftime_now(form) %}{{ form"
    + "".join(f" | replace('{sign}', '{text}')" for sign, text in _TODAY.items())
    + " }}{% endmacro %}"
)
_ROLES = {"system": "system", "human": "user", "assistant": "assistant"}
_ASKED, _REPLIED = human("ASKED"), Message("assistant", "REPLIED")


class Chat:
    """The text that a tokenizer's template makes of dialogues.

    `opening` stands between the last human words and the reply, `lead` between it and the reply's words, `trail`
    between them and `end`, the control token that ends a reply (None where the template writes none). `control` matches
    the tokens that only a template may write. Raises ValueError on a template that does not write replies as it opens
    them.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._template = _CALENDAR + tokenizer.get_chat_template()
        self.control = _control(tokenizer, self._template)
        self._takes_system = self._takes_runs = True
        self._takes_runs = self._shows((*human("FIRST"), *_ASKED), "FIRST")
        self._takes_system = self._shows((Message("system", "ORDERED"), *_ASKED), "ORDERED")
        self._header = ""
        opened, closed = self.opened(_ASKED), self._render(_ASKED, opened=False)
        head, found, tail = self._render((*_ASKED, _REPLIED), opened=False).rpartition(_REPLIED.content)
        if not found or not head.startswith(opened):
            raise ValueError(
                f"{self._name()}: its chat template opens a reply with {opened[-40:]!r} but does not write replies so; "
                "put in a template that does (template@stages.base.template=file) or Human/Assistant text"
            )
        self.lead = head[len(opened) :]
        if opened == closed:  # a template that never opens a turn: its header is ours to write
            self._header = self.lead.rstrip(" ")
            self.lead = self.lead[len(self._header) :]
        self.opening = self.opened(_ASKED).rpartition(_ASKED[0].content)[2]
        end = self.control.search(tail)
        self.trail = tail[: end.start()] if end else ""
        self.end: str | None = end.group() if end else None

    def opened(self, dialogue: Sequence[Message]) -> str:
        """The text of a dialogue up to where the words of the next reply (or `lead`) begin."""
        return self._render(dialogue, opened=True) + self._header

    def _render(self, dialogue: Sequence[Message], *, opened: bool) -> str:
        turns = dialogue if self._takes_system else _folded(dialogue)
        turns = turns if self._takes_runs else _alternating(turns)
        messages = [{"role": _ROLES[turn.role], "content": turn.content} for turn in turns]
        if not messages:
            raise ValueError("the prompt is empty; a model needs a turn to answer")
        try:
            text: Any = self._tokenizer.apply_chat_template(
                messages,
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=opened,
                enable_thinking=False,  # no room for reasoning before a reply
            )
        except TemplateError as error:
            roles, reason = ", ".join(turn["role"] for turn in messages), " ".join(str(error).split())
            raise ValueError(
                f"{self._name()}: its chat template refuses the turns ({roles}): {reason}; mend the dialogue, or put "
                "in another template (template@stages.base.template=file)"
            ) from None
        return str(text)

    def _shows(self, dialogue: Dialogue, wanted: str) -> bool:
        """Whether the template takes a dialogue, and writes the words `wanted` of it."""
        try:
            return wanted in self._render(dialogue, opened=True)
        except ValueError:
            return False

    def _name(self) -> str:
        return str(self._tokenizer.name_or_path or "tokenizer")


def _folded(dialogue: Sequence[Message]) -> Sequence[Message]:
    """The dialogue, its system words in front of the first human ones."""
    first = next((at for at, turn in enumerate(dialogue) if turn.role == "human"), 0)
    if not first or dialogue[0].role != "system":
        return dialogue
    both = Message("human", f"{dialogue[0].content}\n\n{dialogue[first].content}")
    return (*dialogue[1:first], both, *dialogue[first + 1 :])


def _alternating(dialogue: Sequence[Message]) -> Sequence[Message]:
    """The dialogue, neighbours of one role as a single turn, blank lines between."""
    return [
        Message(role, "\n\n".join(turn.content for turn in turns))
        for role, turns in itertools.groupby(dialogue, key=lambda turn: turn.role)
    ]


def _control(tokenizer: PreTrainedTokenizerBase, template: str) -> re.Pattern[str]:
    """A match of the special tokens and of those added to the vocabulary that the template writes (Qwen 3's "<think>").

    White space (Gemma's line breaks) is none: templates write it as ordinary text.
    """
    found = {
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special or (token.content in template and not token.content.isspace())
    }
    longest_first = sorted(found | set(tokenizer.all_special_tokens), key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, longest_first)))
