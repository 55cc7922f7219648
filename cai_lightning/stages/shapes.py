"""The sizes of a language model, read from its folder or from a config, without loading it."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

CONFIG = "config.json"


class Shape(NamedTuple):
    """A decoder-only transformer with gated MLPs: numbers of weights, layers, heads, units and token ids."""

    parameters: float
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int

    def linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the linear maps of one layer, by the names that Hugging Face gives them."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden_size, queries),
            "k_proj": (self.hidden_size, keys),
            "v_proj": (self.hidden_size, keys),
            "o_proj": (queries, self.hidden_size),
            "gate_proj": (self.hidden_size, self.intermediate_size),
            "up_proj": (self.hidden_size, self.intermediate_size),
            "down_proj": (self.intermediate_size, self.hidden_size),
        }

    def in_layers(self) -> float:
        """The weights of the linear maps of all layers."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears().values())


def make_shape(
    *,
    hidden_size: int,
    layers: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    intermediate_size: int,
    vocab_size: int,
    tied: bool,
    qkv_bias: bool,
) -> Shape:
    """The shape of a Llama of these sizes, its weights counted; `tied`: the output head is the embedding."""
    shape = Shape(0, hidden_size, layers, heads, kv_heads, head_dim, intermediate_size, vocab_size)
    biases = (heads + 2 * kv_heads) * head_dim * qkv_bias
    norms = 2 * hidden_size
    embeddings = vocab_size * hidden_size * (1 if tied else 2)
    return shape._replace(parameters=shape.in_layers() + layers * (biases + norms) + hidden_size + embeddings)


def of_recipe(shape: Mapping[str, Any] | None) -> Shape | None:
    """The shape that a config's `shape` block spells out."""
    return None if shape is None else make_shape(**shape)


def of_folder(folder: Path) -> Shape | None:
    """The shape of a model folder: sizes from config.json, weights counted in its safetensors files.

    None where there is no such folder, or where its config names no such sizes. Nothing is loaded.
    """
    try:
        shape = of_config(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        counted = sum(count_weights(file) for file in sorted(folder.glob("*.safetensors")))
    except (OSError, ValueError, KeyError, struct.error):
        return None
    return shape and shape._replace(parameters=counted or shape.parameters)


def of_config(config: Mapping[str, Any]) -> Shape:
    """The shape that a Hugging Face config.json describes. Raises KeyError where it leaves out a size."""
    config = {**config, **config.get("text_config", {})}
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    return make_shape(
        hidden_size=hidden,
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or hidden // heads,
        intermediate_size=config["intermediate_size"],
        vocab_size=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings")),
        qkv_bias=bool(config.get("attention_bias")) or config.get("model_type") == "qwen2",
    )


def count_weights(file: Path) -> int:
    """The weights in a safetensors file, from its header: eight bytes of length, then JSON."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
