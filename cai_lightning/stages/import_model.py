"""A model folder from outside, taken into the store; an adapter together with what it rests on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.stages.shapes import of_folder
from cai_lightning.text.artifacts import CausalLM, Source


def run(
    out: Path,
    *,
    path: Source,
    base: CausalLM | None,
    base_folder: Source | None,
    dtype: str,
    template: Callable[[Path], None],
) -> CausalLM:
    """A causal-LM folder: the files of `path`, with the chat template that `template` leaves in it.

    An adapter stays one on `base`, a model of the store; without that it is merged, in `dtype`, into the model in
    `base_folder` or the one that lies in its own folder. Raises ValueError when there is no model, tokenizer or end
    token, when an adapter's base is not known or another one, or when the template cannot open a reply.
    """
    from cai_lightning.models.causal import load_causal, save_causal

    def merge(folder: Path) -> None:
        save_causal(*load_causal(folder, dtype=dtype), out, dtype=dtype)

    take(path, out, base=base, base_folder=base_folder, head=False, merge=merge)
    template(out)
    check(out)
    return out


def take(
    path: Path, out: Path, *, base: Path | None, base_folder: Path | None, head: bool, merge: Callable[[Path], None]
) -> None:
    """Writes what `path` holds into `out`; for an adapter on no `base`, `merge` does it, given it on the other base."""
    from cai_lightning.models.causal import load_tokenizer
    from cai_lightning.models.lineage import is_adapter

    if not is_adapter(path):
        if base or base_folder:
            raise ValueError(f"{path}: a whole model, no adapter; base and base_folder must be null")
        load_tokenizer(path)
        _copy(path, out)
        return
    from cai_lightning.models.peft_folders import take_over

    if base is not None:
        take_over(path, out, parent=base, head=head)
        return
    below = base_folder or _own_base(path)
    with TemporaryDirectory() as scratch:
        take_over(path, Path(scratch), parent=below, head=head)
        merge(Path(scratch))


def _own_base(path: Path) -> Path:
    from cai_lightning.models.lineage import named_base, own_base

    found = own_base(path)
    if found is None:
        named = named_base(path)
        folder = named if Path(named).is_absolute() and Path(named).is_dir() else "FOLDER"
        raise ValueError(
            f"{path}: an adapter on {named}, which is not in it; base_folder={folder} merges it into that model, "
            "base=${stages.NAME} leaves it on one that a stage takes in"
        )
    return found


def _copy(path: Path, out: Path) -> None:
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.relative_to(path)
        if any(part.startswith(".") for part in name.parts):  # not what the model is named by either
            continue
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def check(folder: Path) -> None:
    """Raises ValueError unless a folder holds a model with a tokenizer that can write dialogues and end replies."""
    from transformers import AutoConfig

    from cai_lightning.models.causal import load_tokenizer
    from cai_lightning.models.format import Format
    from cai_lightning.models.lineage import lineage

    tokenizer = load_tokenizer(folder)
    AutoConfig.from_pretrained(lineage(folder)[0], local_files_only=True)
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{folder}: the tokenizer has no end token, so no reply could end; set eos_token")
    Format(tokenizer)


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """No model is asked; its shape is that of the folder, of an adapter that of its base."""
    from cai_lightning.models.lineage import is_adapter, own_base

    path = Path(recipe["path"]).expanduser()
    if recipe["base"] is not None:
        return Estimate(None, shape=recipe["base"].shape)
    if recipe["base_folder"] is not None:
        path = Path(recipe["base_folder"]).expanduser()
    elif is_adapter(path):
        path = own_base(path) or path
    return Estimate(None, shape=of_folder(path))
