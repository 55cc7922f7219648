from __future__ import annotations

import pytest

from cai_lightning.models.encoding import behind, boundary, content_ids, control_ids, decode, prompts_ids
from cai_lightning.models.stopping import StopStrings

TEXT = "\n\nHuman: how can i build a bomb ?\n\nAssistant:"


def prompt_ids(tokenizer, text):
    return prompts_ids(tokenizer, [text])[0]


def encoder(tokenizer):
    return lambda texts: content_ids(tokenizer, texts)


def after(tokenizer, text):
    """The ids of a text behind a colon."""
    return behind(encoder(tokenizer), ":", [text])[0]


def test_words_come_back_byte_for_byte(words):
    ids = prompt_ids(words, TEXT)
    assert len(ids) == 9 and words.unk_token_id not in ids
    assert decode(words, ids) == TEXT


def test_prompts_have_exactly_one_bos(byte_level_bos, byte_level):
    for text in (TEXT, "", "<s>x", "<s><s>"):
        assert prompt_ids(byte_level_bos, text).count(2) == 1
        assert prompt_ids(byte_level_bos, text)[0] == 2
        assert 2 not in prompt_ids(byte_level, text)
    assert 2 not in after(byte_level_bos, " a")


@pytest.mark.parametrize("text", ["</s>", "a</s> b", "<pad>", "<s>", "x <s></s>"])
def test_control_tokens_in_data_are_text(byte_level, text):
    ids = prompt_ids(byte_level, text)
    assert min(ids) > 2
    assert decode(byte_level, ids) == text
    assert min(after(byte_level, " " + text)) > 2


def test_a_control_token_that_is_a_word_is_refused(words):
    assert prompt_ids(words, " <eos>") == [words.unk_token_id]
    with pytest.raises(ValueError, match="control token"):
        prompt_ids(words, "<eos>")


def test_decode_drops_specials_at_the_end_only(byte_level):
    a, b = prompt_ids(byte_level, "a"), prompt_ids(byte_level, "b")
    assert decode(byte_level, [*a, 0, *b, 1, 0, 0]) == "a<pad>b"
    assert decode(byte_level, [1]) == "" == decode(byte_level, [])


def test_many_equal_one_by_one(byte_level_bos):
    texts = [TEXT, "a", "\n\nHuman: ü"]
    assert prompts_ids(byte_level_bos, texts) == [prompt_ids(byte_level_bos, text) for text in texts]
    assert prompts_ids(byte_level_bos, []) == []


def test_boundary_splits_running_text(words, byte_level):
    prompt, tails = boundary(encoder(words), TEXT, (" (A)", " (B)"))
    assert prompt == prompt_ids(words, TEXT)
    assert [decode(words, tail) for tail in tails] == [" (A)", " (B)"] and [len(tail) for tail in tails] == [1, 1]
    prompt, tails = boundary(encoder(byte_level), "is:", (" (A)",))
    assert prompt + tails[0] == prompt_ids(byte_level, "is: (A)") and len(tails[0]) == 3


def test_boundary_that_merges_across_is_encoded_apart(byte_level):
    prompt, tails = boundary(encoder(byte_level), "hu", ("man",))
    assert len(prompt) == 2 and len(tails[0]) == 1
    prompt, tails = boundary(encoder(byte_level), "hum", ("an",))  # together: "hu", "man"
    assert prompt == prompt_ids(byte_level, "hum")
    assert [decode(byte_level, tail) for tail in tails] == ["an"] and len(tails[0]) == 2


def test_texts_are_read_as_behind_what_stands_before_them(words, byte_level):
    assert behind(encoder(words), "\n\nAssistant:", [" sure .", " no"]) == [
        words(" sure .").input_ids,
        words(" no").input_ids,
    ]
    man = byte_level("man").input_ids
    # "x" leaves "man" alone; "hum" would take its "an" in, so that one is read behind a colon
    assert behind(encoder(byte_level), "x", ["man"]) == [man] and len(man) == 1
    assert behind(encoder(byte_level), "hum", ["an", "man"]) == [byte_level("an").input_ids, man]
    assert behind(encoder(byte_level), "x", ["", "man"]) == [[], man]
    assert behind(encoder(byte_level), "x", []) == []


def test_control_ids_are_all_special_tokens_but_an_unknown_one(words, byte_level, byte_level_bos):
    assert control_ids(words) == {0, 1}
    assert control_ids(byte_level) == {0, 1, 2} == control_ids(byte_level_bos)
    # as in GPT-2, the unknown token is the end token too
    words.unk_token = words.eos_token
    assert control_ids(words) == {0, 1, 2}
    assert decode(words, [*words(" sure").input_ids, 1]) == " sure"


def test_special_tokens_without_a_role_are_control_tokens_too(byte_level):
    byte_level.backend_tokenizer.add_special_tokens(["<|turn|>"])
    number = byte_level.convert_tokens_to_ids("<|turn|>")
    assert number not in byte_level.all_special_ids
    assert decode(byte_level, [*byte_level("a").input_ids, number]) == "a"
    assert number not in prompt_ids(byte_level, "a<|turn|>")


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
