"""Adapters of PEFT's own making come in on a model of the store, or merged; what cannot is refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

import cai_lightning
from cai_lightning.models.causal import load_causal, load_tokenizer
from cai_lightning.models.lineage import CONFIG, PARENT, WEIGHTS, is_adapter, lineage
from cai_lightning.models.templates import own
from cai_lightning.stages import import_model
from cai_lightning.stages.estimates import Estimate
from cai_lightning.stages.shapes import of_folder

WORLD = Path(cai_lightning.__file__).parent / "microworld" / "weights" / "small"
IDS = torch.arange(3, 40)[None]
QV = ["q_proj", "v_proj"]
GIVEN: dict[str, Any] = {"base": None, "base_folder": None, "dtype": "float32", "template": own}

pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated.*:FutureWarning")  # PEFT asks transformers for it


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
    return found


def close_merged(folder: Path, wanted: torch.Tensor) -> None:
    """W + BA rounds once a weight, which four layers of random ids carry to logits of up to 20."""
    torch.testing.assert_close(logits(load_causal(folder, dtype="float32")[0]), wanted, atol=1e-4, rtol=1e-4)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store that holds the base model."""
    shutil.copytree(WORLD, tmp_path / "store" / "import_model" / "0")
    return tmp_path / "store"


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., torch.Tensor]:
    """Saves an adapter that PEFT put on the base to `mine`, and gives its logits."""

    def train(config: Any = None, **settings: Any) -> torch.Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            model: PeftModel = get_peft_model(
                load_causal(WORLD, dtype="float32")[0],
                config or LoraConfig(**({"target_modules": QV, "r": 4, "task_type": "CAUSAL_LM"} | settings)),
            )
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(weight, std=0.02)
        model.save_pretrained(tmp_path / "mine")
        return logits(model.eval())

    return train


def rewrite(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def taken(tmp_path: Path, **changes: Any) -> Path:
    out = tmp_path / "store" / "import_model" / "1"
    return import_model.run(out, path=tmp_path / "mine", **(GIVEN | changes))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_dora": True, "use_rslora": True},
        {"target_modules": "all-linear"},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 5}, "layers_to_transform": [0, 2]},
    ],
)
def test_an_adapter_stays_one_on_a_model_of_the_store(
    settings: dict[str, Any], tmp_path: Path, store: Path, trained: Callable[..., torch.Tensor]
) -> None:
    wanted = trained(**settings)
    base = store / "import_model" / "0"
    out = taken(tmp_path, base=base)
    assert json.loads((out / PARENT).read_text()) == {"parent": "../0", "merge": True}
    assert not list(out.glob("model*.safetensors")) and str(tmp_path) not in (out / CONFIG).read_text()
    model, tokenizer = load_causal(out, dtype="float32", merge=False)
    torch.testing.assert_close(logits(model), wanted, atol=1e-5, rtol=1e-5)
    close_merged(out, wanted)
    assert tokenizer.get_vocab() == load_tokenizer(WORLD).get_vocab()  # the folder has none of its own
    assert lineage(out)[0].resolve() == base.resolve()


def test_an_adapter_is_merged_into_a_folder_in_the_dtype_asked_for(
    tmp_path: Path, trained: Callable[..., torch.Tensor]
) -> None:
    wanted = trained()
    out = taken(tmp_path, base_folder=WORLD)
    assert not is_adapter(out)
    close_merged(out, wanted)
    shutil.rmtree(out)
    weights = load_file(taken(tmp_path, base_folder=WORLD, dtype="bfloat16") / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}


def test_an_adapter_that_brings_its_base_needs_nothing_else(
    tmp_path: Path, trained: Callable[..., torch.Tensor]
) -> None:
    wanted = trained()
    shutil.copytree(WORLD, tmp_path / "mine" / "base")
    rewrite(tmp_path / "mine" / CONFIG, base_model_name_or_path="base")
    out = taken(tmp_path)
    close_merged(out, wanted)
    assert import_model.estimate({"path": str(tmp_path / "mine"), **GIVEN}).shape == of_folder(WORLD)


def test_weights_in_torchs_own_format_are_the_same(
    tmp_path: Path, store: Path, trained: Callable[..., torch.Tensor]
) -> None:
    wanted = trained()
    torch.save(load_file(tmp_path / "mine" / WEIGHTS), tmp_path / "mine" / "adapter_model.bin")
    (tmp_path / "mine" / WEIGHTS).unlink()
    out = taken(tmp_path, base=store / "import_model" / "0")
    close_merged(out, wanted)


def refused(tmp_path: Path, **changes: Any) -> str:
    with pytest.raises(ValueError) as error:
        taken(tmp_path, **(changes or {"base_folder": WORLD}))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_where_the_base_lies_is_asked_for_by_name(tmp_path: Path, trained: Callable[..., torch.Tensor]) -> None:
    trained()
    rewrite(tmp_path / "mine" / CONFIG, base_model_name_or_path="mistralai/Mistral-7B-v0.1")
    said = refused(tmp_path, base=None)
    assert "an adapter on mistralai/Mistral-7B-v0.1, which is not in it; base_folder=FOLDER" in said
    rewrite(tmp_path / "mine" / CONFIG, base_model_name_or_path=str(WORLD))
    assert f"base_folder={WORLD} merges it" in refused(tmp_path, base=None)


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"modules_to_save": ["embed_tokens", "lm_head"]}, "whole copies of embed_tokens, lm_head"),
        ({"bias": "lora_only"}, "sets bias='lora_only', which is not understood"),
        ({"init_lora_weights": "olora"}, "init_lora_weights=olora changed the weights below"),
        ({"trainable_token_indices": [3]}, "sets trainable_token_indices=[3]"),
        ({"target_modules": ["embed_tokens", "q_proj"]}, "adapts an embedding"),
        (
            {"target_modules": ["q_proj", "lm_head"]},
            "beside the adapter, such as lm_head.base_layer.weight",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT warns of what we refuse
def test_what_is_more_than_lora_on_linear_layers_is_refused(
    settings: dict[str, Any], cause: str, tmp_path: Path, trained: Callable[..., torch.Tensor]
) -> None:
    trained(**settings)
    assert cause in refused(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT warns of what we refuse
def test_an_adapter_on_a_head_that_is_the_embedding_is_refused(
    tmp_path: Path, trained: Callable[..., torch.Tensor]
) -> None:
    trained(target_modules=["q_proj", "lm_head"])
    weights = load_file(tmp_path / "mine" / WEIGHTS)
    save_file({key: value for key, value in weights.items() if ".lora_" in key}, tmp_path / "mine" / WEIGHTS)
    assert "adapts lm_head, which also embeds tokens" in refused(tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        IA3Config(target_modules=["down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"),
        AdaLoraConfig(target_modules=QV, total_step=10, task_type="CAUSAL_LM"),
    ],
)
def test_other_kinds_of_adapter_are_refused(config: Any, tmp_path: Path, trained: Callable[..., torch.Tensor]) -> None:
    trained(config)
    assert f"a {config.peft_type.value} adapter; only LoRA and DoRA are understood" in refused(tmp_path)


def test_an_adapter_of_another_model_and_what_is_no_adapter_are_refused(
    tmp_path: Path, store: Path, trained: Callable[..., torch.Tensor]
) -> None:
    trained()
    weights = load_file(tmp_path / "mine" / WEIGHTS)
    save_file({key: weight[..., :-1].contiguous() for key, weight in weights.items()}, tmp_path / "mine" / WEIGHTS)
    assert "does not fit the model below it" in refused(tmp_path, base=store / "import_model" / "0")
    (tmp_path / "mine" / WEIGHTS).unlink()
    assert f"no {WEIGHTS} beside {CONFIG}" in refused(tmp_path)
    shutil.rmtree(tmp_path / "mine")
    shutil.copytree(WORLD, tmp_path / "mine")
    assert "a whole model, no adapter" in refused(tmp_path)


def test_a_tokenizer_larger_than_the_base_is_refused(tmp_path: Path, trained: Callable[..., torch.Tensor]) -> None:
    trained()
    tokenizer = load_tokenizer(WORLD)
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<{n}>" for n in range(99)]})
    tokenizer.save_pretrained(tmp_path / "mine")
    assert "take the tokenizer files out of the folder" in refused(tmp_path)


def test_an_adapter_has_the_shape_of_its_base() -> None:
    shape = of_folder(WORLD)
    given = GIVEN | {"path": "gone"}
    assert shape and import_model.estimate(given | {"base": Estimate(None, shape=shape)}).shape == shape
    assert import_model.estimate(given | {"base_folder": str(WORLD)}).shape == shape
    assert import_model.estimate(given | {"path": str(WORLD)}).shape == shape
