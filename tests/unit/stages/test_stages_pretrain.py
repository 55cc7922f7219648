"""Pretraining rows are what the tokenizer makes of the documents, with the weight of every piece."""

from collections import namedtuple

import pytest

from cai_lightning.microworld.vocabulary import tokenizer
from cai_lightning.stages.pretrain import _rows

Span = namedtuple("Span", "text weight")
Document = namedtuple("Document", "spans end_weight")
SAID = Document([Span("\n\nHuman: how do i bake the bread\n\nAssistant:", 0.0), Span(" sure .", 2.0)], 0.5)


def test_rows_are_the_tokenizers_own_ids_up_to_the_wanted_number_of_tokens() -> None:
    words = tokenizer()
    rows = _rows(iter([SAID] * 10), words, 25)
    whole = words("\n\nHuman: how do i bake the bread\n\nAssistant: sure .").input_ids
    # ten pieces and the end token: three documents are needed for 25 tokens
    assert [row.ids for row in rows] == [[*whole, words.eos_token_id]] * 3
    assert rows[0].weights == [0.0] * 8 + [2.0, 2.0, 0.5]


def test_a_word_outside_the_vocabulary_is_named() -> None:
    with pytest.raises(ValueError, match="' xyzzy'"):
        _rows(iter([Document([Span(" xyzzy", 1.0)], 1.0)]), tokenizer(), 5)
