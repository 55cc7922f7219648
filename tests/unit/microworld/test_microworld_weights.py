"""The weights that ship: made by the recipe that stands in `conf/`, of the shape that their config says."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from cai_lightning import microworld
from cai_lightning.experiment.compose import compose_config
from cai_lightning.experiment.pipeline import make_plan

WEIGHTS = Path(microworld.__file__).parent / "weights"


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_what_ships_was_made_by_the_recipe_of_today(size: str, tmp_path: Path) -> None:
    config = compose_config(["experiment=base", f"model={size}", f"runtime.outputs={tmp_path}"])
    made = json.loads((WEIGHTS / size / "recipe.json").read_text())
    assert made["key"] == make_plan(config).nodes["base"].key
    shape = AutoModelForCausalLM.from_pretrained(WEIGHTS / size).config
    wanted = compose_config([f"model={size}"])["model"]
    assert (shape.hidden_size, shape.num_hidden_layers) == (wanted["hidden_size"], wanted["layers"])


def test_no_other_weights_ship() -> None:
    assert sorted(path.name for path in WEIGHTS.iterdir()) == ["small", "tiny"]
