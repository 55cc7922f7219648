"""Models by the names that people give them: a key, a slot of the latest run, a folder, and `@256` for a snapshot."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from cai_lightning.commands.workspace import Result, Workspace

_SNAPSHOT = re.compile(r"(?P<name>.+)@(?P<sequences>\d+)")


class Player(NamedTuple):
    """A model: its name for people, the result that it belongs to, and the folder of its weights.

    `sequences` is the number of RL samples that a snapshot has seen, null for the model at the end of its training.
    """

    name: str
    result: Result
    folder: Path
    sequences: int | None


def player(workspace: Workspace, name: str) -> Player:
    """The model called `name`. Raises ValueError where it is no model, or the snapshot is not there."""
    mark = _SNAPSHOT.fullmatch(name)
    result = found(workspace, mark["name"] if mark else name)
    folder = result.path
    if mark:
        folder = folder / "snapshots" / f"{int(mark['sequences']):08d}"
        if not folder.is_dir():
            known = sorted(int(path.name) for path in (result.path / "snapshots").glob("*"))
            there = ", ".join(f"@{number}" for number in known) or "none"
            raise ValueError(f"{name}: {result.name} has no such snapshot; there are: {there}")
    if not any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
        raise ValueError(f"{name}: {result.name} is no model; `cai ls` lists the results, the folder of a stage each")
    return Player(name, result, folder, int(mark["sequences"]) if mark else None)


def found(workspace: Workspace, name: str) -> Result:
    """The result in the slot `name` of the latest run, or what the workspace finds under the name."""
    return workspace.find(latest(workspace.outputs).get(name, name))


def latest(outputs: Path) -> dict[str, str]:
    """Slot -> `stage/key` of the latest run; empty where the latest was none."""
    file = outputs / "latest" / "run.json"
    keys: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))["keys"] if file.is_file() else {}
    return keys


def is_reward(folder: Path) -> bool:
    """Whether a folder holds a reward model."""
    return (folder / "reward.json").is_file()
