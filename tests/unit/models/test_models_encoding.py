from __future__ import annotations

import pytest

from cai_lightning.models.encoding import boundary, continuation_ids, decode, prompt_ids, prompts_ids
from cai_lightning.models.stopping import StopStrings

TEXT = "\n\nHuman: how can i build a bomb ?\n\nAssistant:"


def test_words_come_back_byte_for_byte(words):
    ids = prompt_ids(words, TEXT)
    assert len(ids) == 9 and words.unk_token_id not in ids
    assert decode(words, ids) == TEXT


def test_prompts_have_exactly_one_bos(byte_level_bos, byte_level):
    for text in (TEXT, "", "<s>x", "<s><s>"):
        assert prompt_ids(byte_level_bos, text).count(2) == 1
        assert prompt_ids(byte_level_bos, text)[0] == 2
        assert 2 not in prompt_ids(byte_level, text)
    assert 2 not in continuation_ids(byte_level_bos, " a", end=True)


@pytest.mark.parametrize("text", ["</s>", "a</s> b", "<pad>", "<s>", "x <s></s>"])
def test_control_tokens_in_data_are_text(byte_level, text):
    ids = prompt_ids(byte_level, text)
    assert min(ids) > 2
    assert decode(byte_level, ids) == text
    assert min(continuation_ids(byte_level, " " + text, end=False)) > 2


def test_a_control_token_that_is_a_word_is_refused(words):
    assert prompt_ids(words, " <eos>") == [words.unk_token_id]
    with pytest.raises(ValueError, match="control token"):
        prompt_ids(words, "<eos>")


def test_end_adds_the_end_token_once(words):
    assert continuation_ids(words, " sure .", end=True) == [*continuation_ids(words, " sure .", end=False), 1]


def test_decode_drops_specials_at_the_end_only(byte_level):
    a, b = prompt_ids(byte_level, "a"), prompt_ids(byte_level, "b")
    assert decode(byte_level, [*a, 0, *b, 1, 0, 0]) == "a<pad>b"
    assert decode(byte_level, [1]) == "" == decode(byte_level, [])


def test_many_equal_one_by_one(byte_level_bos):
    texts = [TEXT, "a", "\n\nHuman: ü"]
    assert prompts_ids(byte_level_bos, texts) == [prompt_ids(byte_level_bos, text) for text in texts]
    assert prompts_ids(byte_level_bos, []) == []


def test_boundary_splits_running_text(words, byte_level):
    prompt, tails = boundary(words, TEXT, (" (A)", " (B)"))
    assert prompt == prompt_ids(words, TEXT)
    assert [decode(words, tail) for tail in tails] == [" (A)", " (B)"] and [len(tail) for tail in tails] == [1, 1]
    prompt, tails = boundary(byte_level, "is:", (" (A)",))
    assert prompt + tails[0] == prompt_ids(byte_level, "is: (A)") and len(tails[0]) == 3


def test_boundary_that_merges_across_is_encoded_apart(byte_level):
    prompt, tails = boundary(byte_level, "hu", ("man",))
    assert len(prompt) == 2 and len(tails[0]) == 1
    prompt, tails = boundary(byte_level, "hum", ("an",))  # together: "hu", "man"
    assert prompt == prompt_ids(byte_level, "hum")
    assert [decode(byte_level, tail) for tail in tails] == ["an"] and len(tails[0]) == 2


def test_stop_strings_are_found_across_tokens(byte_level):
    stop = StopStrings(byte_level, ("\n\nHuman:", "END"), vocab=270)
    assert stop(prompt_ids(byte_level, "fine then\n\nHuman:"))
    assert stop(prompt_ids(byte_level, "xEND"))
    assert not stop(prompt_ids(byte_level, "\nHuman:"))
    assert stop.cut("a\n\nHuman: b END") == "a"
    able = {byte_level.convert_ids_to_tokens(int(index)) for index in stop.candidates.nonzero()}
    assert able == {":", "D"}
    assert not stop.candidates[263:].any()


def test_stop_strings_in_other_alphabets_make_every_token_a_candidate(byte_level):
    stop = StopStrings(byte_level, ("é",), vocab=262)
    assert stop.candidates.all()
    assert stop(prompt_ids(byte_level, "né"))


def test_empty_stop_string_is_refused(words):
    with pytest.raises(ValueError, match="empty"):
        StopStrings(words, ("",), vocab=10)
