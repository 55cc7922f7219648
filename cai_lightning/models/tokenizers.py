"""Tokenizers trained on text: byte-level BPE, lossless, with an end and a pad token and no begin token."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

END, PAD = "<|endoftext|>", "<|pad|>"
TURN, TURN_END = "<|im_start|>", "<|im_end|>"
CHATML = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


def bpe(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `vocabulary` pieces, pad and end included: fewer where the texts give no more.

    Equal texts in equal order give equal bytes when saved. Raises ValueError below the 256 bytes and two specials.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocabulary < len(alphabet) + 2:
        raise ValueError(f"vocabulary {vocabulary}: must be at least {len(alphabet) + 2}, the bytes and two specials")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, special_tokens=[PAD, END], show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )


def with_chatml(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer itself with a ChatML template and its two control tokens, the second of which ends texts now."""
    tokenizer.add_special_tokens({"additional_special_tokens": [TURN, TURN_END]})
    tokenizer.eos_token = TURN_END
    tokenizer.chat_template = CHATML
    return tokenizer
