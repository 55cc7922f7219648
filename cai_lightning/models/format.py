"""How a model writes a dialogue: its tokenizer's chat template, or Human/Assistant text where it has none.

One path for every stage: what a model is asked, what it learns and what it is scored on. Data text never becomes a
control token: strings of control tokens inside a turn are encoded like any other characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from cai_lightning.models.chat import Chat
from cai_lightning.models.encoding import begin_ids, behind, boundary, content_ids, prompts_ids
from cai_lightning.text.backends import Prompt
from cai_lightning.text.dialogue import MARKERS, Dialogue, Message, human, prompt_text

# A private character that stands in no text. Put into a control token's string it keeps the tokenizer from reading
# one, and leaves all around it as it is in running text; its ids are taken out again.
_SEAM = "\U00108421"


class Format:
    """Dialogues as text and ids, in the way of one tokenizer.

    `opening` is the text between the last human words and the reply, `lead` what a reply begins with (one space in
    Human/Assistant text), `trail` what stands before its end, `end` the id that ends it, `begin` the one that prompts
    begin with (None where they have none). Raises ValueError on a template that cannot open a turn.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.chat = Chat(tokenizer) if tokenizer.chat_template is not None else None
        self.opening, self.lead, self.trail = MARKERS["assistant"], " ", ""
        self.end: int = tokenizer.eos_token_id
        never = r"(?!)"
        self._control = re.compile(f"(?={self.chat.control.pattern if self.chat else never})(.)", re.DOTALL)
        if self.chat:
            self.opening, self.lead, self.trail = self.chat.opening, self.chat.lead, self.chat.trail
            if self.chat.end is not None:
                self.end = tokenizer.convert_tokens_to_ids(self.chat.end)
        one, two = self._ids([_SEAM, 2 * _SEAM])
        self._seam = two[len(one) :] if two[: len(one)] == one and tokenizer.unk_token_id not in two else []
        # what stands before a reply, from its last control token on: so a tokenizer splits it as in running text
        starts = [mark.start() for mark in self._control.finditer(self.opening)]
        self._before = self.opening[max(starts, default=0) :]
        self._before_ids = self._encode([self._before])[0] if starts else None
        first = begin_ids(tokenizer) if self.chat is None else self.prompt_ids([human("a")])[0][:1]
        self.begin: int | None = first[0] if first and first[0] == tokenizer.bos_token_id else None

    @property
    def templated(self) -> bool:
        """Whether dialogues go through a chat template."""
        return self.chat is not None

    def text(self, prompt: Prompt) -> str:
        """The text after which the model goes on."""
        if isinstance(prompt, str):
            return prompt
        if self.chat is None:
            return prompt_text(prompt)
        if prompt and prompt[-1].role == "assistant":
            return self.chat.opened(prompt[:-1]) + self.lead + prompt[-1].content
        return self.chat.opened(prompt)

    def prompt_ids(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """The ids of prompts. Raises ValueError naming a dialogue's place where the template refuses it."""
        plain = [place for place, prompt in enumerate(prompts) if self._plain(prompt)]
        rows = dict(zip(plain, prompts_ids(self.tokenizer, [self.text(prompts[at]) for at in plain]), strict=True))
        others = [place for place in range(len(prompts)) if place not in rows]
        texts = []
        for place in others:
            try:
                texts.append(self.text(self._safe(prompts[place])))
            except ValueError as error:
                raise ValueError(f"prompt {place} of {len(prompts)}: {error}") from None
        rows.update(zip(others, self._encode(texts), strict=True))
        return [rows[place] for place in range(len(prompts))]

    def reply_ids(self, replies: Sequence[str], *, ended: Sequence[bool] | None = None) -> list[list[int]]:
        """The ids of replies as a model is to write them: lead, words, trail, end.

        Those that are not `ended` stop behind their words; one without words always ends.
        """
        ends = [end or not text.strip() for text, end in zip(replies, ended or [True] * len(replies), strict=True)]
        texts = [
            self.lead + self._guard(reply) + (self.trail if end else "")
            for reply, end in zip(replies, ends, strict=True)
        ]
        rows = behind(self._encode, self._before, texts)
        return [[*ids, self.end] if end else ids for ids, end in zip(rows, ends, strict=True)]

    def spans(self, prompt: Prompt, continuations: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """The ids of a prompt and of each continuation after it, without end token, as in running text if possible."""
        if _fresh(prompt):
            continuations = [self.lead + continuation.removeprefix(" ") for continuation in continuations]
        if self._plain(prompt):
            start = begin_ids(self.tokenizer)
            ids, tails = boundary(lambda texts: content_ids(self.tokenizer, texts), self.text(prompt), continuations)
            return start + ids, tails
        return boundary(self._encode, self.text(self._safe(prompt)), continuations)

    def verified_letters(self, prompt: Prompt, continuations: Sequence[str]) -> dict[str, list[str]]:
        """The pieces of each continuation after a prompt: equally many, and they differ in exactly one place.

        Raises ValueError where they do not, for then their log-probabilities compare more than the letters.
        """
        tails = self.spans(prompt, continuations)[1]
        pieces = [self.tokenizer.convert_ids_to_tokens(tail) for tail in tails]
        unequal = [place for place, those in enumerate(zip(*tails, strict=False)) if len(set(those)) > 1]
        if len({len(tail) for tail in tails}) != 1 or len(unequal) != 1 or len(set(map(tuple, tails))) != len(tails):
            shown = ", ".join(f"{text!r} as {piece}" for text, piece in zip(continuations, pieces, strict=True))
            raise ValueError(
                f"the tokenizer reads {shown}: not equally many tokens that differ in one place, so their "
                "probabilities would not compare the letters alone; write the letters differently in the constitution"
            )
        return dict(zip(continuations, pieces, strict=True))

    def reply(self, prompt: Prompt, text: str) -> str:
        """The words of a sampled continuation, without what the format puts around them."""
        words = text.removeprefix(self.lead if _fresh(prompt) else " ")
        return words if isinstance(prompt, str) else words.removesuffix(self.trail)

    def opens(self, ids: Sequence[int]) -> bool:
        """Whether the ids end exactly where a reply begins."""
        if self._before_ids is not None:
            return list(ids[-len(self._before_ids) :]) == self._before_ids
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text.endswith(self.opening)

    def fitted(
        self, prompt: Prompt, room: int, *, inside: bool, ids: Sequence[int] | None = None
    ) -> tuple[list[int], bool] | None:
        """The ids of a prompt in at most `room` tokens, and whether something was left out in front for that.

        Whole turns go first: what is left begins with a human turn, and keeps a dialogue's system turn. Where the last
        human turn alone is too long: None. With `inside` it then loses its own beginning, but not the start token; in a
        chat template it cannot, for a turn without its head is none. `ids` are those of the whole prompt, if known.
        """
        whole = list(self.prompt_ids([prompt])[0] if ids is None else ids)
        if len(whole) <= room:
            return whole, False
        for candidate in _ends(prompt)[1:]:
            found = self.prompt_ids([candidate])[0]
            if 0 < len(found) <= room:
                return found, True
        begin = [] if self.begin is None else [self.begin]
        if not inside or self.templated or room <= len(begin):
            return None
        return [*begin, *whole[len(whole) - room + len(begin) :]], True

    def _plain(self, prompt: Prompt) -> bool:
        return self.chat is None or isinstance(prompt, str)

    def _safe(self, prompt: Prompt) -> Dialogue:
        assert not isinstance(prompt, str)
        return tuple(Message(turn.role, self._guard(turn.content)) for turn in prompt)

    def _guard(self, text: str) -> str:
        """The text with a seam behind the first character of each control token's string that is written in it."""
        return self._control.sub(rf"\1{_SEAM}", text.replace(_SEAM, "") if self.chat else text)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of rendered texts: control tokens where the template wrote them, characters where a turn did."""
        if self.chat is None:
            return content_ids(self.tokenizer, texts)
        return [self._mended(text, ids) for text, ids in zip(texts, self._ids(texts), strict=True)]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        rows: list[list[int]] = self.tokenizer(
            list(texts), add_special_tokens=False, return_attention_mask=False
        ).input_ids
        return rows

    def _mended(self, text: str, ids: list[int]) -> list[int]:
        """The ids without those of the seams."""
        seams, mended, at = text.count(_SEAM), [], 0
        if not seams:
            return ids
        while at < len(ids):
            if self._seam and ids[at : at + len(self._seam)] == self._seam:
                at, seams = at + len(self._seam), seams - 1
            else:
                mended.append(ids[at])
                at += 1
        if seams:
            around = text[max(text.find(_SEAM) - 20, 0) :][:60].replace(_SEAM, "")
            raise ValueError(f"text holds a control token of the tokenizer: {around!r}; remove it from the data")
        return mended


def _fresh(prompt: Prompt) -> bool:
    """Whether a new turn is opened behind the prompt."""
    return not isinstance(prompt, str) and prompt[-1:] != () and prompt[-1].role != "assistant"


def _ends(prompt: Prompt) -> list[Prompt]:
    """The prompt and its ends that begin with a human turn, longest first; a system turn stays."""
    if isinstance(prompt, str):
        marks = [at.start() for at in re.finditer(re.escape(MARKERS["human"]), prompt) if at.start() > 0]
        return [prompt, *(prompt[at:] for at in marks)]
    kept = prompt[:1] if prompt and prompt[0].role == "system" else ()
    starts = [at for at, turn in enumerate(prompt) if turn.role == "human" and at > len(kept)]
    return [prompt, *((*kept, *prompt[at:]) for at in starts)]
