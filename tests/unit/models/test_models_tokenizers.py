import pytest

from cai_lightning.models.tokenizers import bpe, with_chatml

TEXTS = ["\n\nHuman: hello there\n\nAssistant: hello  you — 日本 \ue000", "\n\nHuman: (A) or (B)?"]


def test_pieces_are_learned_from_the_texts_and_nothing_is_lost() -> None:
    tokenizer = bpe(iter(TEXTS), 300)
    assert 258 < len(tokenizer) <= 300
    assert len(tokenizer("hello").input_ids) < len("hello")
    assert len(bpe(iter(TEXTS), 258)("hello").input_ids) == len("hello")
    for text in [*TEXTS, " \n\n x ", "ﬀ🙂"]:
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_its_only_special_tokens_are_pad_and_end() -> None:
    tokenizer = bpe(iter(TEXTS), 300)
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.bos_token) == ("<|pad|>", "<|endoftext|>", None)
    assert tokenizer.chat_template is None


def test_a_vocabulary_without_room_for_the_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="vocabulary 257: must be at least 258"):
        bpe(iter(TEXTS), 257)


def test_chatml_ends_turns_with_a_token_of_its_own() -> None:
    plain = len(bpe(iter(TEXTS), 300))
    tokenizer = with_chatml(bpe(iter(TEXTS), 300))
    assert len(tokenizer) == plain + 2 and tokenizer.eos_token == "<|im_end|>"
    turns = [{"role": "user", "content": " hello\n"}, {"role": "assistant", "content": "you"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == (
        "<|im_start|>user\n hello\n<|im_end|>\n<|im_start|>assistant\nyou<|im_end|>\n"
    )
    opened = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    assert opened == "<|im_start|>user\n hello\n<|im_end|>\n<|im_start|>assistant\n"
