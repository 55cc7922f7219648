"""Folders that hold an adapter: a PEFT folder beside `parent.json`, which names the model below it.

The parent is a path relative to the folder itself, so a store can be moved as a whole. It is again an adapter, or at
the root a folder of dense weights.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

PARENT, CONFIG, WEIGHTS = "parent.json", "adapter_config.json", "adapter_model.safetensors"
SETTINGS = "reward.json"  # beside the weights of a reward model


@dataclass(frozen=True)
class Layer:
    """One adapter above the root, and whether those below it had been merged into dense weights when it was trained."""

    folder: Path
    merge: bool


def is_adapter(path: Path) -> bool:
    """Whether a folder holds an adapter and not a whole model."""
    return (path / CONFIG).is_file()


def is_reward(path: Path) -> bool:
    """Whether a folder holds a reward model, whole or an adapter."""
    return (path / SETTINGS).is_file()


def named_base(path: Path) -> str:
    """What an adapter folder says that it rests on: a hub id, or a path from wherever it was trained."""
    return str(json.loads((path / CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path"))


def own_base(path: Path) -> Path | None:
    """The model that an adapter folder brings along inside it, as `base/`; None where its base lies elsewhere."""
    inside = path / named_base(path)
    return inside if inside.is_dir() and path.resolve() in inside.resolve().parents else None


def lineage(path: Path) -> tuple[Path, list[Layer]]:
    """The folder of dense weights that `path` rests on, and the adapters above it from the lowest to `path` itself.

    Raises ValueError where a folder on the way is missing, is no model or comes back to itself.
    """
    layers: list[Layer] = []
    folder = path
    while is_adapter(folder):
        parent, merge = _parent(folder)
        layers.insert(0, Layer(folder, merge))
        if any(parent == Path(os.path.abspath(layer.folder)) for layer in layers):
            raise ValueError(f"{folder}: {PARENT} leads back to the adapter itself; it must end at a dense model")
        folder = parent
    return folder, layers


def write_parent(out: Path, parent: Path, *, merge: bool) -> str:
    """The path from `out` to its parent, as written to `parent.json`: the same bytes wherever the store lies."""
    relative = Path(os.path.relpath(parent, out)).as_posix()
    (out / PARENT).write_text(json.dumps({"parent": relative, "merge": merge}) + "\n", encoding="utf-8")
    return relative


def stacked(layers: list[Layer]) -> bool:
    """Whether every adapter rests on the root's own weights: nothing was merged below any of them."""
    return not any(layer.merge for layer in layers[1:])


def _parent(folder: Path) -> tuple[Path, bool]:
    if not (folder / PARENT).is_file():
        raise ValueError(
            f"{folder}: an adapter without {PARENT}, so its base is not known; take it in as a stage, "
            "stage/base@stages.NAME=imported"
        )
    fields = json.loads((folder / PARENT).read_text(encoding="utf-8"))
    parent = Path(os.path.abspath(folder / fields["parent"]))
    if not parent.is_dir():
        raise ValueError(f"{folder}: its parent {parent} is gone; make it anew, or merge adapters before moving them")
    return parent, bool(fields["merge"])
