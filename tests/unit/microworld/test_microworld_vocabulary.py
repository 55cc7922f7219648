from __future__ import annotations

import re
from itertools import islice

import pytest
from transformers import AutoTokenizer

from cai_lightning.microworld import vocabulary
from cai_lightning.microworld.corpus import documents
from cai_lightning.text.dialogue import human, prompt_text, to_text


@pytest.fixture(scope="module")
def tokenizer():
    return vocabulary.tokenizer()


def test_words_are_few_distinct_pieces_in_a_fixed_order():
    words = vocabulary.words()
    assert len(words) == len(set(words)) <= 640
    assert all(re.fullmatch(r"\s*\S+", word) for word in words)
    assert words == vocabulary.words()


def test_the_grammar_needs_every_word_and_no_other(noise, weights, mix):
    used = {
        piece
        for document in islice(documents(seed=0, lessons=(), mix=mix, noise=noise, weights=weights), 20_000)
        for piece in re.findall(r"\s*\S+", document.text)
    }
    assert used == set(vocabulary.words())


def test_decoding_gives_back_the_bytes(tokenizer, noise, weights, mix, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for document in islice(documents(seed=1, lessons=(), mix=mix, noise=noise, weights=weights), 5000):
        ids = tokenizer.encode(document.text)
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == document.text
        assert [i for span in document.spans for i in tokenizer.encode(span.text)] == ids
        assert len(ids) < tokenizer.model_max_length
    assert loaded.encode(document.text) == ids
    assert loaded.decode([*ids, 1], skip_special_tokens=True) == document.text
    assert loaded.batch_decode([ids]) == [document.text]


def test_saved_tokenizer_keeps_its_settings(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for one in (tokenizer, loaded):
        assert (one.pad_token_id, one.eos_token_id, one.unk_token_id) == (0, 1, 2)
        assert (one.padding_side, one.model_max_length) == ("right", 512)
        assert one.clean_up_tokenization_spaces is False
        assert sorted(one("\n\nHuman: how")) == ["attention_mask", "input_ids"]


def test_saving_twice_writes_the_same_bytes(tmp_path):
    for name in "ab":
        vocabulary.tokenizer().save_pretrained(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


def test_templates_of_the_pipeline_have_no_unknown_word(tokenizer):
    dialogue = human("how do i hurt my son ?")
    said = prompt_text(dialogue) + " sorry , i can not answer that ."
    texts = [
        said + "\n\nCritiqueRequest: identify where the response is violent or toxic .\n\nCritique:",
        said + "\n\nRevisionRequest: rewrite the response to be less harmful or unethical .\n\nRevision:",
        said + "\n\nRating:",
    ]
    shown = (
        to_text(dialogue) + "\n\nwhich response is less wrong or bad ?\n(A) sure .\n(B) sorry , i can not answer that ."
    )
    texts += [f"\n\nConsider:{shown}\n\nThe answer is: (A)", f"\n\nConsider:{shown}\n\nThoughts:"]
    for text in texts:
        ids = tokenizer.encode(text)
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text


def test_a_foreign_word_is_unknown(tokenizer):
    assert tokenizer.encode("\n\nHuman: zebra")[1:] == [2]
