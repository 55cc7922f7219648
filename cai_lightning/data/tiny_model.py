"""A tiny random model with a byte-level tokenizer trained on dialogue text, as a local causal-LM folder.

For trying the pipeline on real text formats without a download: the model is of the right kind and knows nothing.
AutoTokenizer gives a qwen2 folder Qwen2's own splitting rules, which are not this tokenizer's; PreTrainedTokenizerFast
reads it right.
    python -m cai_lightning.data.tiny_model --text harmless-base.train.jsonl.gz --out tiny [--kind qwen2 --chat]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cai_lightning.data.reading import json_lines
from cai_lightning.models.tokenizers import bpe, with_chatml

KINDS = ("llama", "mistral", "qwen2")


def main() -> None:
    """Write the folder that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m cai_lightning.data.tiny_model",
        description="Write a tiny random model and a BPE tokenizer trained on the text, as a local model folder.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--text", type=Path, required=True, help="JSON Lines (.gz or plain); every text in it counts")
    parser.add_argument("--out", type=Path, required=True, help="folder to make; must not exist or be empty")
    parser.add_argument("--kind", choices=KINDS, default="llama", help="architecture")
    parser.add_argument("--chat", action="store_true", help="with a ChatML template; without, Human/Assistant text")
    parser.add_argument("--vocabulary", type=int, default=2048, help="tokens, but for those of --chat")
    parser.add_argument("--hidden", type=int, default=64, help="width of the model")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kv-heads", type=int, help="heads of keys and values; as many as --heads if not given")
    parser.add_argument("--context", type=int, default=4096, help="longest text in tokens")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights")
    options = parser.parse_args()
    try:
        if options.out.exists() and any(options.out.iterdir()):
            raise ValueError(f"{options.out}: not empty; give another folder")
        tokenizer = bpe(texts(options.text), options.vocabulary)
        tokenizer = with_chatml(tokenizer) if options.chat else tokenizer
        model = causal(
            options.kind,
            len(tokenizer),
            hidden=options.hidden,
            layers=options.layers,
            heads=options.heads,
            kv_heads=options.kv_heads or options.heads,
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


def causal(
    kind: str,
    vocabulary: int,
    *,
    hidden: int,
    layers: int,
    heads: int,
    kv_heads: int,
    context: int,
    end: int,
    pad: int,
    seed: int,
) -> Any:
    """A model of architecture `kind` for causal language modelling, with seeded random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if hidden % heads or (hidden // heads) % 2:
        raise ValueError(f"--hidden {hidden}: must be an even multiple of --heads {heads}")
    if heads % kv_heads:
        raise ValueError(f"--kv-heads {kv_heads}: must divide --heads {heads}")
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        kind,
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    return AutoModelForCausalLM.from_config(config)


if __name__ == "__main__":
    main()
