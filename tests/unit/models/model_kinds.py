"""Tiny random models of four architectures."""

from __future__ import annotations

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

KINDS = ("llama", "mistral", "qwen2", "gpt2")


def make_model(kind: str, vocab: int, window: int | None = None) -> torch.nn.Module:
    """A random model whose logits are spread enough for argmax to be safe from rounding."""
    small = dict(vocab_size=vocab, pad_token_id=0, eos_token_id=1, bos_token_id=None, initializer_range=0.2)
    rope = dict(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        if kind == "llama":
            return LlamaForCausalLM(LlamaConfig(**small, **rope)).eval()
        if kind == "mistral":
            return MistralForCausalLM(MistralConfig(**small, **rope, sliding_window=window)).eval()
        if kind == "qwen2":
            return Qwen2ForCausalLM(Qwen2Config(**small, **rope)).eval()
        return GPT2LMHeadModel(GPT2Config(**small, n_embd=32, n_layer=2, n_head=4, n_positions=128)).eval()
