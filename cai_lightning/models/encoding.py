"""Text to token ids and back: the one path that every stage uses.

Data text never becomes a control token: special tokens written in it are split like any other characters. Prompts
carry the tokenizer's own BOS, exactly once, and nothing else carries one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

Encode = Callable[[list[str]], list[list[int]]]
"""Texts to ids without BOS and end token."""

# Where a text merges with what stands before it, it is read as behind a colon ("The answer is:"), at worst alone:
# tokenizers that put a space before every text would count a leading space twice.
_ELSEWHERE = (":", "")


def prompts_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts that start a row, with one BOS where the tokenizer wants one."""
    start = begin_ids(tokenizer)
    return [start + ids for ids in content_ids(tokenizer, texts)]


def content_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts alone. Raises ValueError where a text holds what can only be read as a control token."""
    if not texts:
        return []
    rows: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False
    ).input_ids
    control = control_ids(tokenizer)
    for text, ids in zip(texts, rows, strict=True):
        if not control.isdisjoint(ids):
            raise ValueError(f"text holds a control token of the tokenizer: {text[:60]!r}; remove it from the data")
    return rows


def behind(encode: Encode, before: str, texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts as they stand behind `before`; where the tokenizer merges the two, as behind something else."""
    rows: dict[int, list[int]] = {}
    for context in (before, *_ELSEWHERE):
        left = [place for place in range(len(texts)) if place not in rows]
        head, *joined = encode([context, *(context + texts[place] for place in left)]) if left else [[]]
        for place, ids in zip(left, joined, strict=True):
            if context == "" or (ids[: len(head)] == head and (len(ids) > len(head) or not texts[place])):
                rows[place] = ids[len(head) :] if context else ids
    return [rows[place] for place in range(len(texts))]


def boundary(encode: Encode, text: str, continuations: Sequence[str]) -> tuple[list[int], list[list[int]]]:
    """The ids of a text and of each continuation after it, split as a model has read them in running text.

    Where the tokenizer merges one of them with the text, all are read as `behind` something else.
    """
    prompt, *joined = encode([text, *(text + continuation for continuation in continuations)])
    if all(ids[: len(prompt)] == prompt and len(ids) > len(prompt) for ids in joined):
        return prompt, [ids[len(prompt) :] for ids in joined]
    return prompt, behind(encode, _ELSEWHERE[0], continuations)


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of ids without any clean-up; control tokens at the end are dropped, others are spelt out."""
    control = control_ids(tokenizer)
    end = len(ids)
    while end and ids[end - 1] in control:
        end -= 1
    text: str = tokenizer.decode(list(ids[:end]), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def control_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids that no text is encoded to: special tokens, named or not. The unknown token is one only if it also
    begins, ends or pads, as GPT-2's does.
    """
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    named = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    return (special | set(tokenizer.all_special_ids)) - ({tokenizer.unk_token_id} - named)


def begin_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """[BOS] where the tokenizer begins a text with it."""
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer("a").input_ids[:1] == [bos] else []
