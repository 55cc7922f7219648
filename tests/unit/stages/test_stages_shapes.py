"""Sizes of models, against published numbers of weights and against models made by Transformers."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from cai_lightning.experiment.compose import CONF
from cai_lightning.models.causal import new_llama
from cai_lightning.stages.shapes import of_config, of_folder, of_recipe

# as the hub's pages of these models say
PUBLISHED = {
    "mistral_7b": 7_241_732_096,
    "mistral_7b_instruct": 7_241_732_096,
    "llama3_8b": 8_030_261_248,
    "qwen2_0_5b": 494_032_768,
    "qwen2_5_0_5b": 494_032_768,
    "qwen2_5_1_5b": 1_543_714_304,
    "qwen2_5_7b_instruct": 7_615_616_512,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_hub_models_have_the_published_number_of_weights(name: str) -> None:
    config = OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{name}.yaml"))
    assert isinstance(config, dict)
    shape = of_recipe(config["shape"])
    assert shape is not None
    assert shape.parameters == PUBLISHED[name]


@pytest.mark.parametrize("tie", [True, False])
def test_a_folder_shows_its_sizes_and_its_counted_weights(tmp_path: Path, tie: bool) -> None:
    sizes = {"vocab_size": 50, "hidden_size": 24, "layers": 3, "heads": 2, "intermediate_size": 40}
    model = new_llama(**sizes, max_positions=64, tie=tie, pad_id=0, eos_id=1, seed=0)
    model.save_pretrained(tmp_path)
    shape = of_folder(tmp_path)
    assert shape is not None
    assert shape == of_config(json.loads((tmp_path / "config.json").read_text()))
    assert shape.parameters == sum(weight.numel() for weight in model.parameters())
    assert (shape.kv_heads, shape.head_dim, shape.vocab_size) == (2, 12, 50)


def test_what_is_no_such_model_has_no_shape(tmp_path: Path) -> None:
    assert of_folder(tmp_path / "none") is None
    (tmp_path / "config.json").write_text('{"n_embd": 3}')
    assert of_folder(tmp_path) is None
    assert of_recipe(None) is None
