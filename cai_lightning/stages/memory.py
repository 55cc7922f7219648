"""The memory that a stage needs at its peak, in bytes, from the shape of its models and its recipe.

Libraries themselves (0.5 to 1 GiB) are not counted, nor is what an allocator loses to gaps. Rows are as long as they
may be and batches full. With P weights, d hidden units, q query units (heads x head size), k key units (key heads x
head size), f MLP units, L layers, V token ids and n tokens in a batch:

    full training     16 P: float32 weights, gradients and two moments of Adam
    LoRA              the frozen weights in `base_dtype` + 16 bytes an adapter weight; rank x (inputs + outputs) a map
    nf4               4 bits and 0.127 bits of constants a weight of the layers; embeddings and head stay bfloat16
    bf16-mixed        2 bytes a float32 weight of layers and head: the copies that the products read
    activations       n L x 4 (6 d + 2 q + 2 k + 4 f) in float32; n L (26 d + 2 (2 q + 2 k + 4 f)) in bf16-mixed
      checkpointed    n L x 4 d (what enters each layer), and one layer's activations
    logits            n V x 4 x 3: logits, their log-softmax, and the gradient
    several processes ddp: 4 bytes a trained weight of gradient buckets; sharded: weights, gradients and moments divided
                      by the processes, and two layers gathered at a time
    sampling          weights + rows x length x 2 L k of keys and values + a layer's units at the prompt + 8 V a row
    scoring           weights + a layer's units at all tokens + n V x 4 x 2
    PPO               training of the policy on a minibatch, the value head left out; the reference is the policy itself
                      without its adapter, else 4 P more; the reward model's weights; keys and values while it samples

Each norm keeps its input and its normed input, and in bf16-mixed each map its own copy of what enters it; attention
keeps queries, keys, values and result, the MLP its gate before and after the nonlinearity, the other factor and the
product. Attention makes no table of all pairs of tokens (fused kernels). A shared prompt is counted for
each of its replies, and the attention of bf16-mixed keeps float32 on a CPU. Checked on a Llama of 20 million weights
on a CPU: within 5 % of what tensors take; glibc's heap may hold a quarter more. Source of 16 bytes a weight:
Rajbhandari et al. 2020 (ZeRO), section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cai_lightning.stages.shapes import Shape

GIB = 2**30
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "nf4": 2.0}  # of what is computed; nf4 computes in bfloat16
NF4 = (4 + 0.127) / 8
NF4_REST = 2.0
TRAINED = 16.0
LOGITS_LEARNED, LOGITS_SCORED = 3, 2


def weights(shape: Shape | None, dtype: str) -> float:
    """Bytes of the weights in a dtype; "nf4" quantises the maps inside the layers."""
    if shape is None:
        return math.nan
    if dtype == "nf4":
        return shape.in_layers() * NF4 + (shape.parameters - shape.in_layers()) * NF4_REST
    return shape.parameters * BYTES[dtype]


def training(shape: Shape | None, recipe: Mapping[str, Any], tokens: float, *, head: bool) -> float:
    """Bytes of one process that trains on `tokens` padded tokens a batch, by the recipe's fit and adapter.

    `head`: its loss reads log-probabilities of tokens.
    """
    if shape is None:
        return math.nan
    states = _states(shape, recipe)
    checkpointed = recipe["fit"].get("checkpoint_activations", False)
    mixed = recipe["fit"]["precision"] == "bf16-mixed"
    logits = tokens * shape.vocab_size * 4 * LOGITS_LEARNED * head
    return states + activations(shape, tokens, mixed=mixed, checkpointed=checkpointed) + logits


def _states(shape: Shape, recipe: Mapping[str, Any]) -> float:
    """Weights, their working copies, gradients and moments of one process."""
    fit, adapter = recipe["fit"], recipe.get("adapter") or {}
    base = str(recipe.get("base_dtype", "float32"))
    rank = adapter.get("rank")
    trained = shape.parameters if rank is None else adapted(shape, rank, adapter.get("targets"))
    states = trained * TRAINED + (0 if rank is None else weights(shape, base))
    head = shape.vocab_size * shape.hidden_size
    copies = 2 * (shape.in_layers() + head) if fit["precision"] == "bf16-mixed" and base == "float32" else 0
    processes = int(fit.get("devices", 1))
    if processes == 1:
        return states + copies
    if shards(fit):
        return (states + copies) / processes + 2 * 4 * shape.in_layers() / shape.layers
    return states + copies + 4 * trained


def shards(fit: Mapping[str, Any]) -> bool:
    """Whether a recipe's fit spreads the weights over its processes."""
    return str((fit.get("strategy") or {}).get("_target_", "")).endswith((".Sharded", "ModelParallelStrategy"))


def adapted(shape: Shape, rank: int, targets: list[str] | None) -> float:
    """The weights of LoRA adapters of this rank; `targets` are names of maps, null takes all."""
    maps = shape.linears()
    chosen = list(maps) if targets is None else [name for name in maps if name in targets]
    return shape.layers * sum(rank * sum(maps[name]) for name in chosen)


def activations(shape: Shape, tokens: float, *, mixed: bool, checkpointed: bool) -> float:
    """Bytes that a forward pass keeps for the gradient, the head left out."""
    d, q, k = shape.hidden_size, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    products = 2 * q + 2 * k + 4 * shape.intermediate_size
    layer = tokens * (26 * d + 2 * products if mixed else 4 * (6 * d + products))
    return shape.layers * tokens * 4 * d + layer if checkpointed else shape.layers * layer


def sampling(shape: Shape | None, dtype: str, *, rows: float, prompt: float, new: float) -> float:
    """Bytes of a model that samples `new` tokens after `prompt` tokens, `rows` at a time."""
    if shape is None:
        return math.nan
    return weights(shape, dtype) + _drawing(shape, BYTES[dtype], rows=rows, prompt=prompt, new=new)


def _drawing(shape: Shape, size: float, *, rows: float, prompt: float, new: float) -> float:
    cache = rows * (prompt + new) * 2 * shape.layers * shape.kv_heads * shape.head_dim * size
    return cache + rows * prompt * _units(shape) * size + rows * shape.vocab_size * 4 * LOGITS_SCORED


def scoring(shape: Shape | None, dtype: str, *, tokens: float, asked: float) -> float:
    """Bytes of a model that reads `tokens` tokens at a time and gives log-probabilities at `asked` of them."""
    if shape is None:
        return math.nan
    return weights(shape, dtype) + tokens * _units(shape) * BYTES[dtype] + asked * shape.vocab_size * 4 * LOGITS_SCORED


def _units(shape: Shape) -> float:
    """What one layer holds of a token at once: the stream twice, and the MLP's gate, factor and product."""
    return 2 * shape.hidden_size + 3 * shape.intermediate_size


def ppo(policy: Shape | None, judge: Shape | None, recipe: Mapping[str, Any], length: float) -> float:
    """Bytes of PPO: policy, reference and reward model side by side, while it learns or while it samples.

    `length` is that of a prompt. A reward model that is an adapter on the policy's own base needs less.
    """
    if policy is None or judge is None:
        return math.nan
    adapter, base = (recipe.get("adapter") or {}).get("rank") is not None, str(recipe.get("base_dtype", "float32"))
    states = _states(policy, recipe)
    frozen = weights(judge, base) + (0 if adapter else weights(policy, "float32"))
    tokens = recipe["minibatch"] * (length + recipe["max_new_tokens"])
    learning = training(policy, recipe, tokens, head=True) - states
    drawing = _drawing(policy, 4, rows=recipe["sample_rows"], prompt=length, new=recipe["max_new_tokens"])
    return states + frozen + max(learning, drawing)
