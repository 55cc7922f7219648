"""A model folder from outside, taken into the store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.stages.shapes import of_folder
from cai_lightning.text.artifacts import CausalLM, Source


def run(out: Path, *, path: Source, template: Callable[[Path], None]) -> CausalLM:
    """A causal-LM folder: the files of `path`, with the chat template that `template` leaves in it.

    Raises ValueError when it holds no model, tokenizer or end token, or when its template cannot open a reply.
    """
    from cai_lightning.models.causal import load_tokenizer
    from cai_lightning.models.lineage import is_adapter

    load_tokenizer(path)
    if is_adapter(path):
        raise ValueError(
            f"{path}: an adapter, not a whole model; merge it into its base (peft: merge_and_unload) first"
        )
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.relative_to(path)
        if any(part.startswith(".") for part in name.parts):  # not what the model is named by either
            continue
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    template(out)
    check(out)
    return out


def check(folder: Path) -> None:
    """Raises ValueError unless a folder holds a model with a tokenizer that can write dialogues and end replies."""
    from transformers import AutoConfig

    from cai_lightning.models.causal import load_tokenizer
    from cai_lightning.models.format import Format

    tokenizer = load_tokenizer(folder)
    AutoConfig.from_pretrained(folder, local_files_only=True)
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{folder}: the tokenizer has no end token, so no reply could end; set eos_token")
    Format(tokenizer)


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """No model is asked; its shape is that of the folder."""
    return Estimate(None, shape=of_folder(Path(recipe["path"]).expanduser()))
