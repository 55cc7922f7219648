"""A tiny random Llama with a byte-level tokenizer trained on dialogue text, as a local causal-LM folder.

For trying the pipeline on real text formats without a download: the model is of the right kind and knows nothing.
    python -m cai_lightning.data.tiny_model --text harmless-base.train.jsonl.gz --out tiny
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cai_lightning.data.reading import json_lines

END, PAD = "<|endoftext|>", "<|pad|>"


def main() -> None:
    """Write the folder that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m cai_lightning.data.tiny_model",
        description="Write a tiny random Llama and a BPE tokenizer trained on the text, as a local model folder.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--text", type=Path, required=True, help="JSON Lines (.gz or plain); every text in it counts")
    parser.add_argument("--out", type=Path, required=True, help="folder to make; must not exist or be empty")
    parser.add_argument("--vocabulary", type=int, default=2048, help="tokens, special ones included")
    parser.add_argument("--hidden", type=int, default=64, help="width of the model")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--context", type=int, default=4096, help="longest text in tokens")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights")
    options = parser.parse_args()
    try:
        if options.out.exists() and any(options.out.iterdir()):
            raise ValueError(f"{options.out}: not empty; give another folder")
        tokenizer = bpe(texts(options.text), options.vocabulary)
        model = llama(
            len(tokenizer),
            hidden=options.hidden,
            layers=options.layers,
            heads=options.heads,
            context=options.context,
            end=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
            seed=options.seed,
        )
    except ValueError as error:
        parser.error(str(error))
    tokenizer.save_pretrained(options.out)
    model.save_pretrained(options.out)


def texts(path: Path) -> Iterator[str]:
    """Every string that is a value of a line's object."""
    for _, row in json_lines(path):
        yield from (value for value in row.values() if isinstance(value, str))


def bpe(texts: Iterator[str], vocabulary: int) -> Any:
    """A fast tokenizer: byte-level BPE, lossless, <|endoftext|> as end token, no begin token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocabulary < len(alphabet) + 2:
        raise ValueError(f"--vocabulary {vocabulary}: must be at least {len(alphabet) + 2}, the bytes and two specials")
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=sorted(alphabet), special_tokens=[PAD, END], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )


def llama(vocabulary: int, *, hidden: int, layers: int, heads: int, context: int, end: int, pad: int, seed: int) -> Any:
    """A Llama for causal language modelling with seeded random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if hidden % heads or (hidden // heads) % 2:
        raise ValueError(f"--hidden {hidden}: must be an even multiple of --heads {heads}")
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=4 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=pad,
        )
    )


if __name__ == "__main__":
    main()
