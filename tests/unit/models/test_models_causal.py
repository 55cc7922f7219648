from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from cai_lightning.models.causal import eos_ids, evaluating, load_causal, new_llama, pad_id, save_causal, torch_dtype

SHAPE = dict(
    vocab_size=70,
    hidden_size=64,
    layers=2,
    heads=4,
    intermediate_size=96,
    max_positions=64,
    tie=True,
    pad_id=0,
    eos_id=1,
)


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_equal_seeds_give_equal_weights_and_leave_the_random_state_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second, other = (new_llama(**SHAPE, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(before, torch.get_rng_state())
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name])
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    assert not first.training


def test_initial_spread_is_as_documented():
    model = new_llama(**(SHAPE | dict(tie=False)), seed=1)
    layer = model.model.layers[0]
    # 0.6 / 8 = 0.075 of 64 inputs; a quarter-root: sqrt(2 * 2) = 2 smaller into the residual stream
    for weight, sd in (
        (layer.self_attn.q_proj.weight, 0.075),
        (layer.self_attn.o_proj.weight, 0.0375),
        (layer.mlp.down_proj.weight, 0.6 / 96**0.5 / 2),
        (model.model.embed_tokens.weight, 0.02),
        (model.lm_head.weight, 0.02),
    ):
        assert weight.std().item() == pytest.approx(sd, rel=0.06)
    assert torch.equal(model.model.norm.weight, torch.ones(64))


def test_tied_and_untied():
    tied, untied = new_llama(**SHAPE, seed=1), new_llama(**(SHAPE | dict(tie=False)), seed=1)
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert untied.lm_head.weight is not untied.model.embed_tokens.weight


def test_saved_folders_are_equal_byte_for_byte_and_load_elsewhere(tmp_path, words):
    model = new_llama(**SHAPE, seed=2)
    save_causal(model, words, tmp_path / "a", dtype="float32")
    loaded, tokenizer = load_causal(tmp_path / "a", dtype="float32")
    save_causal(loaded, tokenizer, tmp_path / "b", dtype="float32")
    save_causal(new_llama(**SHAPE, seed=2), words, tmp_path / "c", dtype="float32")
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b") == bytes_of(tmp_path / "c")
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, loaded.state_dict()[name])
    assert not loaded.training
    assert "model.safetensors" in bytes_of(tmp_path / "a")
    assert all(str(tmp_path).encode() not in content for content in bytes_of(tmp_path / "b").values())
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    assert torch.equal(plain(torch.tensor([[5, 6]])).logits, model(torch.tensor([[5, 6]])).logits)
    assert tokenizer("\n\nHuman: how").input_ids == words("\n\nHuman: how").input_ids


def test_dtype_is_what_was_asked_for_on_both_sides(tmp_path, words):
    model = new_llama(**SHAPE, seed=2)
    save_causal(model, words, tmp_path, dtype="bfloat16")
    assert model.dtype == torch.float32
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    wide, _ = load_causal(tmp_path, dtype="float32")
    assert wide.dtype == torch.float32
    assert torch.equal(wide.lm_head.weight, model.lm_head.weight.bfloat16().float())
    assert load_causal(tmp_path, dtype="bfloat16")[0].dtype == torch.bfloat16


def test_every_architecture_survives_a_round_trip(tmp_path, model, words, capfd):
    save_causal(model, words, tmp_path, dtype="float32")
    loaded, tokenizer = load_causal(tmp_path, dtype="float32")
    assert capfd.readouterr() == ("", "")
    assert tokenizer(" how can").input_ids == words(" how can").input_ids != []
    ids = torch.tensor([[3, 4, 5, 6]])
    assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_the_end_token_learns_even_where_it_is_the_pad(tmp_path, words):
    model = new_llama(**(SHAPE | dict(pad_id=1, tie=False)), seed=2)
    words.pad_token = words.eos_token
    save_causal(model, words, tmp_path, dtype="float32")
    for candidate in (model, load_causal(tmp_path, dtype="float32")[0]):
        candidate(torch.tensor([[5, 1, 6]])).logits.sum().backward()
        assert candidate.model.embed_tokens.weight.grad[1].any()


def test_folders_that_are_not_models_are_named(tmp_path, words):
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        load_causal(tmp_path, dtype="float32")
    model = new_llama(**SHAPE, seed=2)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no tokenizer"):
        load_causal(tmp_path, dtype="float32")
    words.eos_token = None
    words.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no eos token"):
        load_causal(tmp_path, dtype="float32")
    with pytest.raises(ValueError, match="dtype 'float99'"):
        torch_dtype("float99")
    with pytest.raises(ValueError, match="dtype 'nn'"):
        torch_dtype("nn")


def test_end_ids_are_the_tokenizers_first(llama, words):
    assert eos_ids(words, llama) == (1,)
    llama.generation_config.eos_token_id = [9, 1]
    assert eos_ids(words, llama) == (1, 9)
    llama.generation_config.eos_token_id = 9
    assert eos_ids(words, llama) == (1, 9)


def test_pad_falls_back_to_the_end_token(words):
    assert pad_id(words) == 0
    words.pad_token = None
    assert pad_id(words) == 1


def test_evaluating_restores_each_module_after_an_error(llama):
    llama.train()
    llama.lm_head.eval()
    with pytest.raises(RuntimeError), evaluating(llama):
        assert not llama.model.training
        raise RuntimeError
    assert llama.model.training and not llama.lm_head.training
