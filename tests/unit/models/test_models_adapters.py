from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model

from cai_lightning.models.adapters import TRAINED, activate, fold, full, inject, linear_layers, lora, names, only

LORA = dict(rank=4, alpha=8.0, dropout=0.1, targets=None, rslora=False, dora=False, merge=True)
DORA = [False, True]
IDS = torch.tensor([[3, 4, 5, 6, 7, 8, 9]])


def learned(model):
    """Moves what may train, as a fit would."""
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += 0.1 * torch.randn(weight.shape, generator=generator)


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize("dora", DORA)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_new_adapter_changes_nothing_and_off_is_the_base_bit_for_bit(model, dora, dtype):
    model.to(dtype)
    before = logits(model)
    lora(model, **(LORA | {"dora": dora}), seed=1)
    assert torch.equal(logits(model), before)
    learned(model)
    changed = logits(model)
    assert not torch.allclose(changed, before, atol=0.1)
    with only(model, []):
        assert torch.equal(logits(model), before)
    assert torch.equal(logits(model), changed)


@pytest.mark.parametrize("model", ["llama", "gpt2"], indirect=True)
@pytest.mark.filterwarnings("ignore:.*is deprecated.*:FutureWarning")  # PEFT asks for an older name
@pytest.mark.parametrize("dora", DORA)
def test_equal_to_peft_with_the_same_weights(model, dora):
    base = copy.deepcopy(model)
    lora(model, **(LORA | {"dora": dora}), seed=1)
    learned(model)
    shape = {"target_modules": _targets(model), "fan_in_fan_out": _conv(model)}
    theirs = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, use_dora=dora, **shape)).eval()
    state = {name.replace(".trained", ".default"): weight for name, weight in model.state_dict().items()}
    theirs.load_state_dict({f"base_model.model.{name}": weight for name, weight in state.items()})
    torch.testing.assert_close(logits(theirs), logits(model), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dora", DORA)
def test_folding_is_the_same_function_and_leaves_a_plain_model(model, dora):
    modules = [name for name, _ in model.named_modules()]
    lora(model, **(LORA | {"dora": dora}), seed=1)
    learned(model)
    before = logits(model)
    fold(model)
    torch.testing.assert_close(logits(model), before, atol=1e-5, rtol=1e-5)
    assert [name for name, _ in model.named_modules()] == modules
    assert names(model) == [] and all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("model", ["llama", "gpt2"], indirect=True)
def test_a_lora_stacked_on_a_dora_folds_to_the_same_function(model):
    config = LoraConfig(r=2, lora_alpha=2, target_modules=_targets(model), use_dora=True, fan_in_fan_out=_conv(model))
    inject(model, config, "below0", seed=3)
    for weight in model.parameters():
        weight.requires_grad_(False)
    for name, weight in model.named_parameters():
        weight.requires_grad_(".below0." in name)
    learned(model)
    lora(model, **(LORA | {"merge": False}), seed=1)
    learned(model)
    before = logits(model)
    fold(model)
    torch.testing.assert_close(logits(model), before, atol=1e-5, rtol=1e-5)


def _targets(model):
    return sorted({path.rpartition(".")[2] for path, _ in linear_layers(model)})


def _conv(model):
    return "c_attn" in _targets(model)


def test_null_takes_every_linear_layer_but_the_head(model):
    wanted = {
        "llama": ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
        "gpt2": ["c_attn", "c_fc", "c_proj"],
    }["gpt2" if model.config.model_type == "gpt2" else "llama"]
    assert _targets(model) == wanted
    lora(model, **LORA, seed=1)
    assert sorted(model.peft_config[TRAINED].target_modules) == wanted
    assert _targets(model) == wanted  # also with adapters on it
    adapted = [name for name, layer in model.named_modules() if hasattr(layer, "lora_A")]
    assert len(adapted) == 2 * (4 if model.config.model_type == "gpt2" else 7)
    assert not any("head" in name for name in adapted)


def test_chosen_targets_and_one_that_the_model_lacks(llama):
    lora(llama, **(LORA | {"targets": ["v_proj", "q_proj"]}), seed=1)
    assert sum(weight.requires_grad for weight in llama.parameters()) == 2 * 2 * 2
    with pytest.raises(
        ValueError, match=r"adapter\.targets: no linear layer is called 'c_attn'; there are q_proj"
    ) as e:
        lora(llama, **(LORA | {"targets": ["c_attn"]}), seed=1)
    assert "\n" not in str(e.value)


def test_only_the_new_adapter_may_train_whatever_is_switched(model):
    lora(model, **LORA, seed=1)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained and all(".lora_" in name and ".trained." in name for name in trained)
    config = LoraConfig(r=2, target_modules=_targets(model), fan_in_fan_out=_conv(model))
    inject(model, config, "judge0", seed=0)
    activate(model, [TRAINED])
    with pytest.raises(KeyError), only(model, ["judge0"]):
        raise KeyError
    assert {name for name, weight in model.named_parameters() if weight.requires_grad} == trained
    assert {tuple(layer.active_adapters) for layer in model.modules() if hasattr(layer, "lora_A")} == {(TRAINED,)}


def test_the_start_is_a_function_of_the_seed_and_leaves_the_random_state_alone(llama):
    before = torch.get_rng_state()
    made = []
    for seed in (1, 1, 2):
        one = copy.deepcopy(llama)
        lora(one, **LORA, seed=seed)
        made.append({name: weight for name, weight in one.named_parameters() if weight.requires_grad})
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(weight, made[1][name]) for name, weight in made[0].items())
    assert not all(torch.equal(weight, made[2][name]) for name, weight in made[0].items())


def test_scale_is_alpha_over_rank_or_over_its_root(llama):
    for rslora, scale in ((False, 2.0), (True, 4.0)):
        one = copy.deepcopy(llama)
        lora(one, **(LORA | {"rslora": rslora, "targets": ["down_proj"]}), seed=1)
        layer = one.model.layers[1].mlp.down_proj
        layer.lora_B[TRAINED].weight.data.fill_(0.5)
        rows = torch.randn(3, layer.in_features)
        by_hand = (
            rows @ layer.base_layer.weight.T + scale * (rows @ layer.lora_A[TRAINED].weight.T).sum(1)[:, None] * 0.5
        )
        torch.testing.assert_close(layer(rows), by_hand, atol=1e-5, rtol=1e-5)


def test_all_weights_train_in_float32_only(llama):
    llama.requires_grad_(False)
    full(llama, seed=0)
    assert all(weight.requires_grad for weight in llama.parameters())
    with pytest.raises(ValueError, match=r"base_dtype is bfloat16, but adapter=full trains every weight") as error:
        full(llama.bfloat16(), seed=0)
    assert "\n" not in str(error.value)


def test_full_training_folds_what_was_there(llama):
    lora(llama, **LORA, seed=1)
    learned(llama)
    before = logits(llama)
    full(llama, seed=0)
    torch.testing.assert_close(logits(llama), before, atol=1e-5, rtol=1e-5)
    assert names(llama) == []


def test_dora_goes_on_no_other_adapter(llama):
    lora(llama, **LORA, seed=1)
    with pytest.raises(ValueError, match=r"adapter\.dora: DoRA rescales dense weights"):
        lora(llama, **(LORA | {"dora": True, "merge": False}), seed=1)


@pytest.mark.parametrize("dora", DORA)
def test_step_zero_is_the_base_under_autocast_too(model, dora):
    with torch.autocast("cpu", torch.bfloat16):
        before = logits(model)
        lora(model, **(LORA | {"dora": dora}), seed=1)
        assert torch.equal(logits(model), before)


def test_recipes_are_callables_that_need_model_and_seed_alone(llama):
    partial(lora, **LORA)(llama, seed=3)
    assert names(llama) == [TRAINED]
