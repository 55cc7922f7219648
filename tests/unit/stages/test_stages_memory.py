"""Bytes by hand, on a shape with round numbers, and the published sizes of 7B models."""

import math
from typing import Any

import pytest
import torch

from cai_lightning.models.attention import hidden_states
from cai_lightning.models.causal import new_llama
from cai_lightning.models.packing import Route, Tree, pack
from cai_lightning.stages import memory
from cai_lightning.stages.shapes import Shape, make_shape

# per layer: q 100 x 100, k and v 100 x 50 each, o 100 x 100, gate, up, down 100 x 200 each
SMALL = Shape(
    parameters=1_000_000,
    hidden_size=100,
    layers=10,
    heads=4,
    kv_heads=2,
    head_dim=25,
    intermediate_size=200,
    vocab_size=1000,
)
MISTRAL = make_shape(
    hidden_size=4096,
    layers=32,
    heads=32,
    kv_heads=8,
    head_dim=128,
    intermediate_size=14336,
    vocab_size=32000,
    tied=False,
    qkv_bias=False,
)


def recipe(adapter: Any = None, base_dtype: str = "float32", **fit: Any) -> dict[str, Any]:
    return {"fit": {"precision": "32-true", "devices": 1, **fit}, "adapter": adapter, "base_dtype": base_dtype}


def test_full_training_is_sixteen_bytes_a_weight() -> None:
    assert memory.training(SMALL, recipe(), 0, head=True) == 16_000_000
    # the products read bfloat16 copies of 900 000 weights in layers and 100 000 in the head
    assert SMALL.in_layers() == 900_000
    assert memory.training(SMALL, recipe(precision="bf16-mixed"), 0, head=True) == 18_000_000


def test_an_adapter_adds_its_own_weights_to_the_frozen_ones() -> None:
    # q: 100 + 100, v: 100 + 50, of rank 8 in 10 layers
    assert memory.adapted(SMALL, 8, ["q_proj", "v_proj"]) == 8 * 350 * 10
    # in all maps: 200 + 150 + 150 + 200 + 3 x 300
    assert memory.adapted(SMALL, 8, None) == 8 * 1600 * 10
    frozen = recipe(adapter={"rank": 8, "targets": ["q_proj", "v_proj"]}, base_dtype="bfloat16")
    assert memory.training(SMALL, frozen, 0, head=True) == 2_000_000 + 16 * 28_000


def test_weights_by_dtype() -> None:
    assert [memory.weights(SMALL, name) for name in ("float32", "bfloat16")] == [4e6, 2e6]
    # 900 000 weights of 4.127 bits, 100 000 of 16
    assert memory.weights(SMALL, "nf4") == pytest.approx(900_000 * 4.127 / 8 + 200_000)
    # bitsandbytes' documentation: a 7B model in 4 bits takes a bit more than 4 GB
    assert 3.8 < memory.weights(MISTRAL, "nf4") / memory.GIB < 4.2
    assert memory.weights(MISTRAL, "bfloat16") / memory.GIB == pytest.approx(13.5, abs=0.1)


def test_activations() -> None:
    # a token and layer in float32: 600 + 200 + 100 + 800 numbers
    assert memory.activations(SMALL, 1, mixed=False, checkpointed=False) == 10 * 4 * 1700
    assert memory.activations(SMALL, 1, mixed=True, checkpointed=False) == 10 * (2600 + 2 * 1100)
    # ten layers' inputs, and one layer
    assert memory.activations(SMALL, 1, mixed=False, checkpointed=True) == 10 * 400 + 4 * 1700
    checked = recipe(checkpoint_activations=True)
    # and 1000 logits, three times
    assert memory.training(SMALL, checked, 1, head=True) == 16e6 + 4000 + 6800 + 12_000
    assert memory.training(SMALL, checked, 1, head=False) == 16e6 + 4000 + 6800


def test_several_processes() -> None:
    ddp = recipe(devices=2, strategy={"_target_": "lightning.pytorch.strategies.DDPStrategy"})
    assert memory.training(SMALL, ddp, 0, head=True) == 20e6
    sharded = recipe(devices=2, strategy={"_target_": "cai_lightning.learning.processes.Sharded"})
    # a half of all, and two layers of 90 000 weights
    assert memory.training(SMALL, sharded, 0, head=True) == 8e6 + 2 * 4 * 90_000


def test_sampling_holds_keys_and_values_of_every_token() -> None:
    # 3 rows of 7 tokens: 2 x 10 layers x 50; a layer's units at 2 prompt tokens; two tables of logits a row
    expected = 4e6 + 3 * 7 * 1000 * 4 + 3 * 2 * (200 + 600) * 4 + 3 * 1000 * 8
    assert memory.sampling(SMALL, "float32", rows=3, prompt=2, new=5) == expected
    # Mistral 7B: 128 KiB of keys and values a token in bfloat16 (8 heads x 128 x 2 x 32 layers x 2 bytes)
    one, two = (memory.sampling(MISTRAL, "bfloat16", rows=1, prompt=8, new=new) for new in (0, 1))
    assert two - one == 128 * 1024


def test_scoring_holds_one_layer_and_the_logits_asked_for() -> None:
    assert memory.scoring(SMALL, "float32", tokens=5, asked=2) == 4e6 + 5 * 800 * 4 + 2 * 1000 * 8


def test_ppo_holds_a_reference_unless_the_policy_is_an_adapter() -> None:
    ppo = {"minibatch": 2, "max_new_tokens": 3, "sample_rows": 1}
    whole = memory.ppo(SMALL, SMALL, {**ppo, **recipe()}, 4)
    # three models, and 14 tokens of 68 kB activations and 12 kB logits: more than one row of 7 tokens draws
    assert whole == 16e6 + 4e6 + 4e6 + 14 * (68_000 + 12_000)
    adapted = memory.ppo(SMALL, SMALL, {**ppo, **recipe(adapter={"rank": 8, "targets": None})}, 4)
    assert adapted == 4e6 + 16 * 128_000 + 4e6 + 14 * 80_000


def test_an_unknown_model_needs_an_unknown_amount() -> None:
    assert math.isnan(memory.training(None, recipe(), 1, head=True))
    assert math.isnan(memory.sampling(None, "float32", rows=1, prompt=1, new=1))
    assert math.isnan(memory.ppo(None, SMALL, recipe(), 1))


@pytest.mark.parametrize(
    ("mixed", "route", "wider"),
    [
        (False, "packed", 0),
        (False, "padded", 0),
        (True, "padded", 0),
        # on a CPU our attention reads half precision in float32: 2 bytes more of queries, keys, values and result, and
        # the result once more as the next map reads it
        (True, "packed", 2 * 4 * 64 + 2 * 64),
    ],
)
def test_activations_are_what_autograd_keeps(mixed: bool, route: Route, wider: int) -> None:
    """Every tensor that a real forward pass saves, weights and logits left out."""
    shape = make_shape(
        hidden_size=64,
        layers=4,
        heads=4,
        kv_heads=4,
        head_dim=16,
        intermediate_size=256,
        vocab_size=32,
        tied=True,
        qkv_bias=False,
    )
    model = new_llama(
        vocab_size=32,
        hidden_size=64,
        layers=4,
        heads=4,
        intermediate_size=256,
        max_positions=64,
        tie=True,
        pad_id=0,
        eos_id=1,
        seed=0,
    ).train()
    packed = pack([Tree((), [ids]) for ids in torch.randint(3, 32, (32, 64))], route=route)
    hidden_states(model, packed)  # a model's first packed row is preceded by a trial
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        hidden_states(model, packed).sum()
    expected = memory.activations(shape, len(packed.ids), mixed=mixed, checkpointed=False)
    assert expected + shape.layers * len(packed.ids) * wider == pytest.approx(sum(kept.values()), rel=0.1)
