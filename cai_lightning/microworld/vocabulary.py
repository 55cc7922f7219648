"""The vocabulary of the micro-world and its tokenizer: one token a word, together with the white space before it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from cai_lightning.microworld import document, preferences, principles, ratings, replies, revisions, world
from cai_lightning.microworld import words as lists
from cai_lightning.text.dialogue import MARKERS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, EOS, UNK = SPECIALS = ("<pad>", "<eos>", "<unk>")
LONGEST_TEXT = 512
"""Tokens; what a model of this world is built for."""
_PLACEHOLDER = re.compile(r"\s*\{\w+\}")


def words() -> list[str]:
    """Every piece of text that the grammar can produce, white space included, without specials; in a fixed order."""
    return list(dict.fromkeys(piece for text in _texts() for piece in document.pieces(text)))


def tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer: ids 0, 1, 2 are padding, end and unknown; decoding is plain concatenation."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    entries = {piece: number for number, piece in enumerate([*SPECIALS, *words()])}
    rust = Tokenizer(models.WordLevel(entries, unk_token=UNK))
    rust.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s*\S+"), behavior="isolated")
    rust.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=rust,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="right",
        model_max_length=LONGEST_TEXT,
        model_input_names=["input_ids", "attention_mask"],
        # The clean-up would join " ." to the word before it: decoding must give back the very text.
        clean_up_tokenization_spaces=False,
    )


def _texts() -> Iterator[str]:
    """All texts that make up the grammar, as they stand in a document but for their placeholders."""
    for text in (*MARKERS.values(), *_marks(), "\n\n" + principles.COMPARISON):
        yield _PLACEHOLDER.sub("", text)
    for text in (*_templates(), *_open_words()):
        yield _PLACEHOLDER.sub("", " " + text)


def _marks() -> tuple[str, ...]:
    return (
        document.CRITIQUE_REQUEST,
        document.REVISION_MARK,
        document.REVISION_REQUEST,
        document.CONSIDER,
        document.ANSWER_MARK,
        document.THOUGHTS_MARK,
        document.RATING_MARK,
        document.PROOF_MARK,
        *document.LETTERS,
    )


def _templates() -> tuple[str, ...]:
    return (
        *world.BENIGN_FORMS,
        *world.ONE_ACT_FORMS,
        *world.TWO_ACT_FORMS,
        *(replies.ANSWER, replies.OPENING, replies.STEP, replies.HAZARD_STEP, replies.ACTION_STEP),
        *(replies.EVASION, replies.WONT, replies.WONT_EITHER, replies.BENIGN_WONT),
        *(replies.INSTEAD, replies.INSTEAD_BOTH),
        *(revisions.FOUND, revisions.NOT_FOUND, revisions.NO_PROBLEM),
        *(principles.CRITIQUE, principles.REVISION, principles.OR, *principles.GENERAL_AIMS),
        *(preferences.HAS, preferences.AND, preferences.EVASIVE, preferences.FINE),
    )


def _open_words() -> Iterable[str]:
    counts = [str(count) for count in range(1, len(replies.ORDER) + 1)]
    yield from (*replies.ORDER, ratings.RIGHT, ratings.WRONG, *ratings.RIGHT_SLOTS, *ratings.RED_TEAM, *counts)
    yield from (*lists.CATEGORIES, *lists.VERBS, *lists.BORDERLINE_VERBS, *lists.OBJECTS, *lists.PESTS)
    yield from (*lists.TOOLS, *lists.MATERIALS, *lists.PLACES, *lists.STEPS, *lists.PERSONS)
    for category in lists.CATEGORIES:
        yield from (*lists.HARM_VERBS[category], *lists.HAZARDS[category], *lists.HARM_STEPS[category])
        yield from (lists.CONSEQUENCES[category], *lists.SAFE_VERBS[category])
