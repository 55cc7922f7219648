from __future__ import annotations

import math

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cai_lightning.evaluation.plain_text import Loss, compare, document_losses, windows

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def byte_tokenizer(*, begins: bool) -> PreTrainedTokenizerFast:
    """One token a byte, with a begin token before each text if asked."""
    pieces = ["<pad>", "</s>", "<s>", *ALPHABET]
    core = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if begins:
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", bos_token="<s>")


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    size = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=len(ALPHABET) + 3, max_position_embeddings=64, initializer_range=0.3, **size)
    ).eval()


@pytest.mark.parametrize(
    ("tokens", "length", "stride"), [(10, 4, 2), (10, 4, 3), (11, 4, 1), (4, 4, 2), (5, 4, 3), (2, 9, 3)]
)
def test_windows_score_every_token_but_the_first_once_with_enough_context(
    tokens: int, length: int, stride: int
) -> None:
    found = windows(tokens, length=length, stride=stride)
    scored = [place for window in found for place in range(window.scored, window.end)]
    assert scored == list(range(1, tokens))
    for number, window in enumerate(found):
        assert window.end - window.start <= length
        assert window.start == number * stride
        assert window.scored - window.start >= (length - stride if number else 1)


def test_texts_without_a_token_to_score_have_no_window_and_bad_strides_are_refused() -> None:
    assert windows(1, length=4, stride=2) == windows(0, length=4, stride=2) == []
    for stride in (0, 4):
        with pytest.raises(ValueError, match="stride"):
            windows(5, length=4, stride=stride)


def slow(model: LlamaForCausalLM, ids: list[int], length: int, stride: int) -> float:
    """Each token on its own, after the context that its window gives it."""
    total = 0.0
    for place in range(1, len(ids)):
        number = 0
        while place >= number * stride + length:
            number += 1
        with torch.no_grad():
            logits = model(torch.tensor([ids[number * stride : place]])).logits[0, -1]
        total -= float(torch.log_softmax(logits.double(), -1)[ids[place]])
    return total


@pytest.mark.parametrize("begins", [False, True])
def test_losses_are_the_slow_loop_and_count_only_what_was_scored(model: LlamaForCausalLM, begins: bool) -> None:
    tokenizer = byte_tokenizer(begins=begins)
    texts = ["hello plain world", "é", "a", ""]
    found = document_losses(model, tokenizer, texts, length=6, stride=4, batch_size=3)
    for text, loss in zip(texts, found, strict=True):
        ids = tokenizer(text).input_ids
        assert loss.nats == pytest.approx(slow(model, ids, 6, 4), rel=1e-5, abs=1e-6)
        assert loss.tokens == max(len(ids) - 1, 0)
    # a byte each: with a begin token all bytes are scored
    assert [loss.bytes for loss in (found[0], found[2], found[3])] == [17 - (not begins), int(begins), 0]


def test_a_longer_stride_than_the_text_is_one_pass(model: LlamaForCausalLM) -> None:
    tokenizer = byte_tokenizer(begins=False)
    one, two = (document_losses(model, tokenizer, ["plain"], length=n, stride=5, batch_size=1)[0] for n in (6, 40))
    assert one == two


def test_figures_are_totals_over_totals_and_differences_are_paired() -> None:
    before = [Loss(10.0, 5, 20), Loss(30.0, 15, 40), Loss(8.0, 5, 15)]
    after = [Loss(nats + 0.1 * tokens, tokens, size) for nats, tokens, size in before]
    other = [Loss(nats, 2 * tokens, size) for nats, tokens, size in before]
    table = compare({"sft": after, "base": before, "other": other}, against="base", resamples=200, seed=0)
    base = table["base"]
    assert (base["documents"], base["tokens"], base["bytes"]) == (3, 25, 75)
    assert base["nats_per_token"]["value"] == pytest.approx(48 / 25)
    assert base["bits_per_byte"]["value"] == pytest.approx(48 / 75 / math.log(2))
    assert base["difference"] is None
    change = table["sft"]["difference"]["nats_per_token"]
    # the same loss more on every token: certain, however unlike the documents are
    assert (change["value"], change["low"], change["high"]) == pytest.approx((0.1, 0.1, 0.1))
    assert base["nats_per_token"]["high"] - base["nats_per_token"]["low"] > 0.1
    assert set(table["other"]["difference"]) == {"nats_per_byte", "bits_per_byte"}


def test_a_single_document_has_no_interval_and_nonsense_is_refused() -> None:
    one = compare({"base": [Loss(1.0, 2, 3)]}, against="base", resamples=10, seed=0)["base"]
    assert (one["nats_per_token"]["low"], one["nats_per_token"]["n"]) == (None, 1)
    with pytest.raises(ValueError, match="is none of base"):
        compare({"base": [Loss(1.0, 2, 3)]}, against="sft", resamples=10, seed=0)
    with pytest.raises(ValueError, match="no text has two tokens"):
        compare({"base": [Loss(0.0, 0, 0)]}, against="base", resamples=10, seed=0)
