"""How a model writes a dialogue: its tokenizer's chat template, or Human/Assistant text where it has none.

One path for every stage: what a model is asked, what it learns and what it is scored on. Data text never becomes a
control token: strings of control tokens inside a turn are encoded like any other characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from cai_lightning.models.encoding import boundary, content_ids, continuations_ids, prompts_ids
from cai_lightning.text.backends import Prompt
from cai_lightning.text.dialogue import MARKERS, Dialogue, Message, human, prompt_text

# A template may fill in today's date or leave room for reasoning: what it writes must not depend on the day.
_FIXED = {"date_string": "26 Jul 2024", "enable_thinking": False}
_ROLES = {"system": "system", "human": "user", "assistant": "assistant"}
_FIRST_PRIVATE = 0xE000
_ASKED, _REPLIED = human("ASKED"), Message("assistant", "REPLIED")


class Format:
    """Dialogues as text and ids, in the way of one tokenizer.

    `opening` is the text between the last human words and the reply, `lead` what a reply begins with (one space in
    Human/Assistant text), `end` the id that ends a reply. Raises ValueError on a template that cannot open a turn.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.templated = tokenizer.chat_template is not None
        controls = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._guards = {text: chr(_FIRST_PRIVATE + place) for place, text in enumerate(sorted(controls, key=_longest))}
        self._control = re.compile("|".join(map(re.escape, self._guards)) or r"(?!)")
        self._guarded = re.compile(f"([{''.join(self._guards.values())}])" if self._guards else r"(?!)")
        self.opening, self.lead, self.end = MARKERS["assistant"], " ", tokenizer.eos_token_id
        self._takes_system = True
        if self.templated:
            self._takes_system = self._renders((Message("system", "ORDERED"), *_ASKED), "ORDERED")
            self.opening, self.lead, self.end = self._probed()
        # what stands before a reply, from its last control token on: so a tokenizer splits it as in running text
        self._before = self.opening[max((mark.start() for mark in self._control.finditer(self.opening)), default=0) :]

    def text(self, prompt: Prompt) -> str:
        """The text after which the model goes on."""
        if isinstance(prompt, str):
            return prompt
        if not self.templated:
            return prompt_text(prompt)
        if prompt and prompt[-1].role == "assistant":
            return self._render(prompt[:-1], opened=True) + self.lead + prompt[-1].content
        return self._render(prompt, opened=True)

    def prompt_ids(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """The ids of prompts. Raises ValueError on a dialogue that the template refuses."""
        plain = [place for place, prompt in enumerate(prompts) if isinstance(prompt, str) or not self.templated]
        rows = dict(zip(plain, prompts_ids(self.tokenizer, [self.text(prompts[at]) for at in plain]), strict=True))
        others = [place for place in range(len(prompts)) if place not in rows]
        texts = [self.text(self._safe(prompts[place])) for place in others]
        rows.update(zip(others, self._encode(texts), strict=True))
        return [rows[place] for place in range(len(prompts))]

    def reply_ids(self, replies: Sequence[str]) -> list[list[int]]:
        """The ids of replies as a model is to write them: lead, words, end."""
        texts = [self.lead + reply for reply in replies]
        if not self.templated:
            rows = continuations_ids(self.tokenizer, texts, end=False)
        else:
            joined = self._encode([self._before + self._guard(text) for text in texts])
            before = self._encode([self._before])[0]
            rows = [
                ids[len(before) :] if ids[: len(before)] == before else content_ids(self.tokenizer, [text])[0]
                for ids, text in zip(joined, texts, strict=True)
            ]
        return [[*ids, self.end] for ids in rows]

    def spans(self, prompt: Prompt, continuations: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """The ids of a prompt and of each continuation after it, without end token, as in running text if possible."""
        if not isinstance(prompt, str) and prompt[-1].role != "assistant":
            continuations = [self.lead + continuation.removeprefix(" ") for continuation in continuations]
        if isinstance(prompt, str) or not self.templated:
            return boundary(
                self.tokenizer, self.text(prompt), continuations, lambda texts: prompts_ids(self.tokenizer, texts)
            )
        return boundary(self.tokenizer, self.text(self._safe(prompt)), continuations, self._encode)

    def reply(self, prompt: Prompt, text: str) -> str:
        """The words of a sampled continuation, without what the format puts before them."""
        fresh = not isinstance(prompt, str) and prompt[-1].role != "assistant"
        return text.removeprefix(self.lead if fresh else " ")

    def opens(self, ids: Sequence[int]) -> bool:
        """Whether the ids end where a reply begins."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text.rstrip().endswith(self.opening.rstrip())

    def shortened(self, prompt: Prompt, room: int) -> list[int] | None:
        """The ids of the longest end of a prompt that has at most `room` tokens, whole turns left out in front.

        It begins with a human turn, and keeps a dialogue's system turn. None where the last human turn is too long.
        """
        for candidate in _ends(prompt):
            ids = self.prompt_ids([candidate])[0]
            if 0 < len(ids) <= room:
                return ids
        return None

    def _probed(self) -> tuple[str, str, int]:
        opened = self._render(_ASKED, opened=True)
        whole = self._render((*_ASKED, _REPLIED), opened=False)
        if not whole.startswith(opened) or _REPLIED.content not in whole[len(opened) :]:
            raise ValueError(
                f"{self._name()}: its chat template opens a reply with {opened[-40:]!r} but does not write replies so; "
                "put in a template that does (template@stages.base.template=file) or Human/Assistant text"
            )
        lead, _, tail = whole[len(opened) :].partition(_REPLIED.content)
        special = {id for id, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        ends = [id for id in self._encode([tail])[0] if id in special]
        return opened.rpartition(_ASKED[0].content)[2], lead, ends[0] if ends else self.tokenizer.eos_token_id

    def _render(self, dialogue: Sequence[Message], *, opened: bool) -> str:
        messages = [{"role": _ROLES[turn.role], "content": turn.content} for turn in self._foldable(dialogue)]
        try:
            text: Any = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=opened, **_FIXED
            )
        except TemplateError as error:
            roles = ", ".join(turn["role"] for turn in messages)
            raise ValueError(f"{self._name()}: its chat template refuses the turns ({roles}): {error}") from None
        return str(text)

    def _renders(self, dialogue: Dialogue, wanted: str) -> bool:
        """Whether the template takes a dialogue, and shows the words `wanted` of it."""
        try:
            return wanted in self._render(dialogue, opened=True)
        except ValueError:
            return False

    def _foldable(self, dialogue: Sequence[Message]) -> Sequence[Message]:
        """The dialogue, its system words in front of the first human ones where the template knows no such role."""
        if self._takes_system or len(dialogue) < 2 or dialogue[0].role != "system":
            return dialogue
        first = dialogue[1]
        return (Message(first.role, f"{dialogue[0].content}\n\n{first.content}"), *dialogue[2:])

    def _safe(self, prompt: Prompt) -> Dialogue:
        assert not isinstance(prompt, str)
        return tuple(Message(turn.role, self._guard(turn.content)) for turn in prompt)

    def _guard(self, text: str) -> str:
        """The text with one private character in place of each control token that is written in it."""
        return self._control.sub(lambda mark: self._guards[mark.group()], text)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of rendered texts: control tokens where the template wrote them, characters where a turn did."""
        if not texts:
            return []
        rows: list[list[int]] = self.tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False
        ).input_ids
        return [
            ids if not self._guarded.search(text) else self._pieces(text) for text, ids in zip(texts, rows, strict=True)
        ]

    def _pieces(self, text: str) -> list[int]:
        words = {guard: control for control, guard in self._guards.items()}
        ids: list[int] = []
        for piece in self._guarded.split(text):
            if piece in words:
                ids += content_ids(self.tokenizer, [words[piece]])[0]
            elif piece:
                ids += self.tokenizer(piece, add_special_tokens=False).input_ids
        return ids

    def _name(self) -> str:
        return str(self.tokenizer.name_or_path or "tokenizer")


def _longest(text: str) -> tuple[int, str]:
    return -len(text), text


def _ends(prompt: Prompt) -> list[Prompt]:
    """The prompt and its ends that begin with a human turn, longest first; a system turn stays."""
    if isinstance(prompt, str):
        marks = [at.start() for at in re.finditer(re.escape(MARKERS["human"]), prompt) if at.start() > 0]
        return [prompt, *(prompt[at:] for at in marks)]
    kept = prompt[:1] if prompt and prompt[0].role == "system" else ()
    starts = [at for at, turn in enumerate(prompt) if turn.role == "human" and at > len(kept)]
    return [prompt, *((*kept, *prompt[at:]) for at in starts)]
