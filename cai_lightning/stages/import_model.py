"""A model folder from outside, taken into the store as it is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import CausalLM, Source


def run(out: Path, *, path: Source) -> CausalLM:
    """A causal-LM folder: the files of `path`. Raises ValueError when it holds no model, tokenizer or end token."""
    from transformers import AutoConfig

    from cai_lightning.models.causal import load_tokenizer

    tokenizer = load_tokenizer(path)
    AutoConfig.from_pretrained(path, local_files_only=True)
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{path}: the tokenizer has no end token, so no reply could end; set eos_token")
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.relative_to(path)
        if any(part.startswith(".") for part in name.parts):  # not what the model is named by either
            continue
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    return out


def estimate(_: Mapping[str, Any]) -> Estimate:
    """No model is asked."""
    return Estimate(None)
