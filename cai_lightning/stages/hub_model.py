"""A model of the Hugging Face hub by its id: from the hub's cache, or from the network where the run may use it."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.stages.import_model import check
from cai_lightning.stages.shapes import Shape, of_folder, of_recipe
from cai_lightning.text.artifacts import CausalLM

FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "vocab.txt", "merges.txt"]
OTHERS = ["*/*", "consolidated*"]  # the same weights once more, in other formats
ORIGIN = "hub.json"


def run(
    out: Path, *, hub_id: str, revision: str, shape: dict[str, int | bool] | None, template: Callable[[Path], None]
) -> CausalLM:
    """A causal-LM folder: the files of `hub_id` at `revision`, with the chat template that `template` leaves in it.

    `revision` is the commit, 40 hex digits, for a branch may move; `hub.json` names it. Raises ValueError where it is
    none, where the model is not to be had, holds no safetensors weights, no tokenizer or no end token, or has other
    sizes than `shape` says.
    """
    check_recipe({"hub_id": hub_id, "revision": revision})
    snapshot = fetch(hub_id, revision)
    for file in sorted(path for path in snapshot.iterdir() if path.is_file()):
        _take(file, out / file.name)
    origin = {"hub_id": hub_id, "revision": revision, "commit": snapshot.name}
    (out / ORIGIN).write_text(json.dumps(origin) + "\n", encoding="utf-8")
    if not any(out.glob("*.safetensors")):
        raise ValueError(f"{hub_id}: no safetensors weights at revision {revision}; choose a revision that has them")
    template(out)
    check(out)
    _check_shape(of_folder(out), of_recipe(shape), f"{hub_id} at revision {revision}")
    return out


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Raises ValueError where the revision is no commit."""
    if not re.fullmatch(r"[0-9a-f]{40}", str(recipe["revision"])):
        raise ValueError(
            f"revision {recipe['revision']!r} is no commit; branches move, so give the 40 hex digits that"
            f" https://huggingface.co/{recipe['hub_id']}/commits shows"
        )


def fetch(hub_id: str, revision: str) -> Path:
    """The folder in the hub's cache that holds a snapshot, downloaded first where that is allowed and needed."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    elsewhere = "stage/base@stages.base=imported model.path=FOLDER"
    try:
        found = snapshot_download(
            hub_id, revision=revision, allow_patterns=FILES, ignore_patterns=OTHERS, local_files_only=offline
        )
    except LocalEntryNotFoundError:
        why = "and this run may not ask the hub; take runtime.online=true" if offline else "and the hub does not answer"
        raise ValueError(
            f"{hub_id} at revision {revision} is not in the Hugging Face cache, {why}, or a folder: {elsewhere}"
        ) from None
    except HfHubHTTPError as error:
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"{hub_id} at revision {revision}: {said}; check model.hub_id and model.revision, for a gated model set "
            f"HF_TOKEN, or take a folder: {elsewhere}"
        ) from None
    return Path(found)


def _take(file: Path, target: Path) -> None:
    """Puts a file of the cache into the folder; large ones, which nobody writes to, as one more name of the same."""
    target.unlink(missing_ok=True)
    if file.suffix == ".safetensors":
        try:
            os.link(file.resolve(), target)
            return
        except OSError:  # another file system
            pass
    shutil.copyfile(file, target)


def _check_shape(found: Shape | None, wanted: Shape | None, name: str) -> None:
    if wanted is None:
        return
    if found is None:
        raise ValueError(f"{name}: config.json names no sizes of a decoder with gated MLPs; set model.shape=null")
    for field in (*Shape._fields[1:], "parameters"):
        there, said = getattr(found, field), getattr(wanted, field)
        # old files hold a few tables that are no weights
        if not math.isclose(there, said, rel_tol=1e-3 if field == "parameters" else 0):
            raise ValueError(f"{name}: {field} is {there:.0f}, but model.shape says {said:.0f}; correct model.shape")


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """No model is asked; its shape is what the config says."""
    return Estimate(None, shape=of_recipe(recipe["shape"]))
