"""The end of a run that makes a model to ship: its folder, with the recipe that made it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai_lightning.text.artifacts import CausalLM


def run(folder: Path, *, run: Mapping[str, Any], model: CausalLM) -> None:  # noqa: ARG001
    """Writes `folder/weights/`: the model's files and `recipe.json`, the recipe and code digest of its manifest."""
    out = folder / "weights"
    out.mkdir(exist_ok=True)
    manifest = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
    for name in manifest["files"]:
        if name != "metrics.jsonl":
            shutil.copyfile(model / name, out / name)
    recipe = {name: manifest[name] for name in ("key", "recipe", "code", "packages")}
    (out / "recipe.json").write_text(json.dumps(recipe, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"weights: {out}")
