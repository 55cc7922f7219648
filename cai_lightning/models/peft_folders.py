"""Adapters from outside: PEFT folders that others have written, taken over as ours are kept or refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

from cai_lightning.models.adapter_files import PREFIX, check_fit
from cai_lightning.models.causal import load_tokenizer
from cai_lightning.models.lineage import CONFIG, SETTINGS, WEIGHTS, write_parent
from cai_lightning.models.reward import HEAD

_OLD_WEIGHTS = "adapter_model.bin"
_HEADS = {"score", "classifier"}  # PEFT lists both for a classifier of any architecture
_KEPT = "r lora_alpha lora_dropout target_modules exclude_modules fan_in_fan_out use_rslora use_dora rank_pattern"
_KEPT += " alpha_pattern layers_to_transform layers_pattern task_type peft_type"
# where the adapter is, and how it was begun: nothing that counts once it is trained
_PAST = "base_model_name_or_path revision auto_mapping peft_version inference_mode eva_config loftq_config corda_config"
_STARTS = ("gaussian", "orthogonal", "eva")  # the others also change the weights below


def take_over(folder: Path, out: Path, *, parent: Path, head: bool) -> None:
    """Writes a folder with the adapter of a PEFT folder on `parent`, as our stages write theirs.

    `head`: it is a reward model, so a score of one number comes with it. The tokenizer is the adapter's own, or the
    parent's where it has none. Raises ValueError in one line where the adapter is more than LoRA or DoRA on linear
    layers, or does not fit the parent.
    """
    settings = _settings(folder)
    weights = _weights(folder)
    _check_whole_weights(folder, weights, head=head)
    out.mkdir(parents=True, exist_ok=True)
    save_file({key: weights[key].contiguous() for key in sorted(weights)}, out / WEIGHTS, metadata={"format": "pt"})
    settings["base_model_name_or_path"] = write_parent(out, parent, merge=True)
    settings |= {"modules_to_save": [HEAD.split(".")[0]] if head else None, "inference_mode": True}
    (out / CONFIG).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for name in ("generation_config.json", SETTINGS):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    tokenizer = load_tokenizer(folder if (folder / "tokenizer_config.json").is_file() else parent)
    tokenizer.save_pretrained(out)
    embedded = check_fit(out)
    if len(tokenizer) > embedded:
        raise ValueError(
            f"{folder}: its tokenizer has {len(tokenizer)} tokens, the model below it embeds {embedded}; take the "
            "tokenizer files out of the folder, and the base's are used"
        )


def _settings(folder: Path) -> dict[str, Any]:
    """What counts of a PEFT config. Raises ValueError where it sets what we do not know."""
    fields: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if fields.get("peft_type") != "LORA":
        raise ValueError(f"{folder}: a {fields.get('peft_type')} adapter; only LoRA and DoRA are understood{_MERGE}")
    if others := sorted(set(fields.get("modules_to_save") or ()) - _HEADS):
        raise ValueError(f"{folder}: whole copies of {', '.join(others)} were trained beside the adapter{_MERGE}")
    start = fields.get("init_lora_weights", True)
    if isinstance(start, str) and start not in _STARTS:
        raise ValueError(f"{folder}: init_lora_weights={start} changed the weights below the adapter{_MERGE}")
    usual = LoraConfig()
    known = {*_KEPT.split(), *_PAST.split(), "modules_to_save", "init_lora_weights"}
    for name in sorted(set(fields) - known):
        if fields[name] and fields[name] != getattr(usual, name, None):
            raise ValueError(f"{folder}: {CONFIG} sets {name}={fields[name]!r:.40}, which is not understood{_MERGE}")
    return {name: fields[name] for name in _KEPT.split() if name in fields}


_MERGE = "; merge it into its base (peft: merge_and_unload) and give that folder"


def _weights(folder: Path) -> dict[str, Tensor]:
    if (folder / WEIGHTS).is_file():
        return load_file(folder / WEIGHTS)
    if (folder / _OLD_WEIGHTS).is_file():
        old: dict[str, Tensor] = torch.load(folder / _OLD_WEIGHTS, map_location="cpu", weights_only=True)
        return old
    raise ValueError(f"{folder}: no {WEIGHTS} beside {CONFIG}; give the folder that PEFT saved the adapter into")


def _check_whole_weights(folder: Path, weights: dict[str, Tensor], *, head: bool) -> None:
    """Raises ValueError unless all weights are those of adapted linear layers and, with `head`, one row of a score."""
    if embedding := next((key for key in sorted(weights) if ".lora_embedding_" in key), None):
        raise ValueError(f"{folder}: adapts an embedding ({embedding}); only linear layers are understood{_MERGE}")
    whole = sorted(key.removeprefix(PREFIX) for key in weights if ".lora_" not in key)
    if head and HEAD not in whole:
        raise ValueError(f"{folder}: no reward model: its weights hold no {HEAD}; take it in as stage/base")
    if whole == [HEAD] and not head:
        raise ValueError(f"{folder}: no language model, it holds {HEAD}; take it in as stage/reward_model")
    if more := [key for key in whole if key != HEAD]:
        raise ValueError(f"{folder}: holds whole weights beside the adapter, such as {more[0]}{_MERGE}")
    if head and len(weights[PREFIX + HEAD]) != 1:
        raise ValueError(f"{folder}: its head gives {len(weights[PREFIX + HEAD])} numbers; a reward model gives one")
