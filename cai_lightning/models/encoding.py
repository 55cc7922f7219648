"""Text to token ids and back: the one path that every stage uses.

Data text never becomes a control token: special tokens written in it are split like any other characters. Prompts
carry the tokenizer's own BOS, exactly once, and nothing else carries one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

# Continuations stand after a colon ("Assistant:", "The answer is:"). Tokenizers that put a space before every text
# would count it twice if a continuation were encoded alone.
_BEFORE = ":"


def prompt_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text that starts a row, with one BOS where the tokenizer wants one."""
    return prompts_ids(tokenizer, [text])[0]


def prompts_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """`prompt_ids` of many texts at once."""
    start = _bos(tokenizer)
    return [start + ids for ids in content_ids(tokenizer, texts)]


def continuation_ids(tokenizer: PreTrainedTokenizerBase, text: str, *, end: bool) -> list[int]:
    """The ids of a text that follows a prompt, its leading space included; with the end token where `end`."""
    return continuations_ids(tokenizer, [text], end=end)[0]


def continuations_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, end: bool) -> list[list[int]]:
    """`continuation_ids` of many texts at once."""
    before, *joined = content_ids(tokenizer, [_BEFORE, *(_BEFORE + text for text in texts)])
    alone = None
    rows = []
    for index, ids in enumerate(joined):
        if ids[: len(before)] == before:
            rows.append(ids[len(before) :])
        else:
            alone = alone or content_ids(tokenizer, texts)
            rows.append(alone[index])
    return [[*ids, tokenizer.eos_token_id] for ids in rows] if end else rows


def boundary(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    continuations: Sequence[str],
    encode: Callable[[list[str]], list[list[int]]],
) -> tuple[list[int], list[list[int]]]:
    """The ids, by `encode`, of a text and of each continuation after it, without end token.

    Where the ids of text + continuation begin with the ids of the text, the rest is the continuation, as a model has
    read it in running text; elsewhere (the tokenizer merged across the boundary) both are encoded on their own.
    """
    prompt, *joined = encode([text, *(text + continuation for continuation in continuations)])
    if all(ids[: len(prompt)] == prompt and len(ids) > len(prompt) for ids in joined):
        return prompt, [ids[len(prompt) :] for ids in joined]
    return prompt, continuations_ids(tokenizer, continuations, end=False)


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of ids without any clean-up; special tokens at the end are dropped, others are spelt out."""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    end = len(ids)
    while end and ids[end - 1] in special:
        end -= 1
    text: str = tokenizer.decode(list(ids[:end]), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def _bos(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """[BOS] where the tokenizer's own template starts with it."""
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer("a").input_ids[:1] == [bos] else []


def content_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts alone. Raises ValueError where a text holds what can only be read as a control token."""
    if not texts:
        return []
    rows: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False
    ).input_ids
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for text, ids in zip(texts, rows, strict=True):
        if not special.isdisjoint(ids):
            raise ValueError(f"text holds a control token of the tokenizer: {text[:60]!r}; remove it from the data")
    return rows
