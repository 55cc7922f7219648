"""Adapters as PEFT folders: the few weights that were trained, and what they are put on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, dtype
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from cai_lightning.models.adapters import TRAINED, fold, inject, names, quantised
from cai_lightning.models.lineage import CONFIG, WEIGHTS, Layer, lineage, write_parent

# PEFT names weights from its own wrapper downwards; we inject without one.
PREFIX = "base_model.model."
# What we set: PEFT's other settings are its defaults, which differ from version to version.
_SETTINGS = ("r", "lora_alpha", "lora_dropout", "fan_in_fan_out", "use_rslora", "use_dora", "bias")


def put_layers(model: PreTrainedModel, layers: list[Layer]) -> dict[str, Tensor]:
    """Puts the adapters of a lineage on its root, frozen and active, folding where their training did.

    On 4-bit weights all of them stay. Gives the other weights of the uppermost folder, which take the place of lower
    ones: a reward model's head. Raises ValueError where they do not, so that a lower folder's would be lost, and where
    staying would be another function: DoRA rescales the weights it was put on.
    """
    others: dict[str, Tensor] = {}
    for number, layer in enumerate(layers):
        if layer.merge and names(model):
            if not quantised(model):
                fold(model)
            elif _config(layer.folder).use_dora:
                raise ValueError(f"{layer.folder}: DoRA over a folded adapter cannot be put on nf4; take bfloat16")
        lower, others = others, put_on(model, layer.folder, f"below{number}")
        if not set(lower) <= set(others):
            raise ValueError(f"{layers[number - 1].folder}: no language model, so only a reward model can rest on it")
    return others


def put_on(model: PreTrainedModel, folder: Path, name: str) -> dict[str, Tensor]:
    """Puts a folder's adapter on the model, frozen and active, and returns the folder's other weights.

    Raises ValueError when the folder's weights are not those of an adapter of this model.
    """
    state, others = _fitted(model, folder, name)
    set_peft_model_state_dict(model, state, adapter_name=name)
    return others


def check_fit(folder: Path) -> int:
    """The tokens that the model below a folder's adapter embeds; its weights are not read.

    Raises ValueError when the folder's weights are not those of an adapter of that model.
    """
    config = AutoConfig.from_pretrained(lineage(folder)[0], local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    _fitted(model, folder, "checked")
    return int(model.get_input_embeddings().weight.shape[0])


def _fitted(model: PreTrainedModel, folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of a folder's adapter, for which the model has been made ready, and its other weights."""
    config = _config(folder)
    config.modules_to_save, config.lora_dropout = None, 0.0  # heads are kept apart; what is frozen drops nothing
    inject(model, config, name, seed=0)
    state = {key.removeprefix(PREFIX): value for key, value in load_file(folder / WEIGHTS).items()}
    others = {key: state.pop(key) for key in sorted(state) if ".lora_" not in key}
    if getattr(model.config, "tie_word_embeddings", False) and any(".lm_head.lora_" in f".{key}" for key in state):
        raise ValueError(f"{folder}: adapts lm_head, which also embeds tokens in the model below it; train without it")
    wanted = _state(model, name)
    for key in sorted({*state, *wanted}):
        if key not in state or key not in wanted or state[key].shape != wanted[key].shape:
            raise ValueError(f"{folder}: {WEIGHTS} does not fit the model below it at {key}; it belongs to another one")
    return state, others


def write(
    model: PreTrainedModel, out: Path, *, parent: Path, task: str, others: dict[str, Tensor], dtype: dtype
) -> None:
    """Writes the trained adapter and the `others`, which PEFT is to take over whole, in `dtype`; equal weights, equal
    bytes. `task` is PEFT's name of what the model does.
    """
    state = {PREFIX + key: value for key, value in {**_state(model, TRAINED), **others}.items()}
    merge = len([name for name in names(model) if name.startswith("below")]) == 0
    out.mkdir(parents=True, exist_ok=True)
    relative = write_parent(out, parent, merge=merge)
    save_file(
        {key: value.detach().to("cpu", dtype).contiguous() for key, value in state.items()},
        out / WEIGHTS,
        metadata={"format": "pt"},
    )
    config = model.peft_config[TRAINED]
    fields: dict[str, Any] = {name: getattr(config, name) for name in _SETTINGS} | {
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": relative,
        "target_modules": sorted(config.target_modules),
        "modules_to_save": sorted({key.split(".")[0] for key in others}) or None,
        "inference_mode": True,
    }
    (out / CONFIG).write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _config(folder: Path) -> LoraConfig:
    config = PeftConfig.from_pretrained(str(folder))
    if not isinstance(config, LoraConfig):
        raise ValueError(f"{folder}: a {config.peft_type} adapter; only LoRA and DoRA are understood")
    return config


def _state(model: PreTrainedModel, name: str) -> dict[str, Tensor]:
    state: dict[str, Tensor] = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    return state
