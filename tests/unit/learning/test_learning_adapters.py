from functools import partial

import pytest
import torch

from cai_lightning.data.batching import length_buckets
from cai_lightning.data.sft import SFTData, SFTRow
from cai_lightning.learning.fit import fit
from cai_lightning.learning.sft import SFTModule
from cai_lightning.models.adapters import full, lora

LORA = dict(rank=4, alpha=8.0, dropout=0.1, targets=None, rslora=False, dora=False, merge=True)
ROWS = [SFTRow([3, 4 + i, 5, 6 + i, 1], [0.0, 0.0, 1.0, 1.0, 1.0]) for i in range(4)]


def data():
    plan = partial(length_buckets, multiple=8)
    return SFTData(ROWS, [], plan=plan, batch_tokens=16, accumulate=1, route="packed", seed=0)


def adapted(model, dora=False):
    lora(model, **(LORA | {"dora": dora}), seed=1)
    return model


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fit_moves_the_adapter_alone(llama, recipe, trainer, dora, dtype):
    policy = adapted(llama().to(dtype), dora)
    before = {name: weight.clone() for name, weight in policy.named_parameters()}
    module = SFTModule(policy, **recipe)
    given = {id(weight) for group in recipe["optimizer"](module).param_groups for weight in group["params"]}
    fit(module, data(), epochs=2, **trainer)
    for name, weight in policy.named_parameters():
        learns = ".lora_" in name
        assert (id(weight) in given) == learns
        assert torch.equal(weight, before[name]) != learns, name
        assert weight.dtype == (torch.float32 if learns else dtype)
    # two matrices a layer, seven layers a block, two blocks; DoRA has a vector a layer as well
    assert len(given) == 28 + 14 * dora


@pytest.mark.parametrize("prepare", [lambda model: full(model, seed=0), adapted], ids=["full", "lora"])
def test_recomputed_activations_give_the_same_gradients(llama, recipe, trainer, prepare):
    weights, calls = [], []
    for wanted in (False, True):
        policy, seen = llama(), []
        prepare(policy)
        # in training alone: a model's first packed row is preceded by a trial
        policy.model.layers[0].input_layernorm.register_forward_hook(
            lambda layer, *_, seen=seen: seen.append(1) if layer.training else None
        )
        fit(SFTModule(policy, **recipe), data(), epochs=1, **(trainer | {"checkpoint_activations": wanted}))
        weights.append(dict(policy.named_parameters()))
        calls.append(len(seen))
        assert not any(getattr(part, "gradient_checkpointing", False) for part in policy.modules())
    assert calls[1] == 2 * calls[0]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=1e-6, rtol=1e-6)
