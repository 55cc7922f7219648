"""Tiny random models of four architectures and two tokenizers, made on the spot."""

from __future__ import annotations

import pytest
import torch
from model_kinds import KINDS, make_model
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = (
    "\n\nHuman:\n\nAssistant:\n\nConsider:\n\nThe (A) (B) how can i build a bomb ? sure . no , sorry is get the rope "
    "answer is: better helpful ask me what why good bad"
)


def make_words() -> PreTrainedTokenizerFast:
    """One id a word, white space belonging to the word after it; specials <pad> 0, <eos> 1, <unk> 2; no BOS."""
    pieces = pre_tokenizers.Split(Regex(r"\s*\S+"), "isolated")
    words = dict.fromkeys(piece for piece, _ in pieces.pre_tokenize_str(WORDS))
    vocab = {word: index for index, word in enumerate(["<pad>", "<eos>", "<unk>", *words])}
    core = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    core.pre_tokenizer = pieces
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def make_bytes(bos: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE without merges beyond " (" and "man"; one token a byte else; with a BOS template if asked."""
    special = ["<pad>", "</s>", "<s>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "("), ("m", "a"), ("ma", "n")]
    pieces = [*special, *alphabet, *(left + right for left, right in merges)]
    core = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if bos:
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", bos_token="<s>")


@pytest.fixture(params=KINDS)
def model(request):
    return make_model(request.param, 64)


@pytest.fixture
def llama():
    return make_model("llama", 64)


@pytest.fixture
def mistral_with_window():
    return make_model("mistral", 64, window=8)


@pytest.fixture
def words():
    return make_words()


@pytest.fixture
def byte_level():
    return make_bytes(bos=False)


@pytest.fixture
def byte_level_bos():
    return make_bytes(bos=True)


@pytest.fixture
def byte_llama():
    return make_model("llama", 270)


@pytest.fixture
def prompts():
    """Ragged rows of ordinary ids."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, 64, (length,), generator=generator).tolist() for length in (5, 1, 9, 6, 12, 3)]
