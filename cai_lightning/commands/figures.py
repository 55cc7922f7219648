"""The figures that a store has of a model: the last of its training, and those of the tables made from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cai_lightning.commands.origins import table
from cai_lightning.commands.players import Player

_NOT_TABLES = ("manifest.json", "timing.json", "counts.json")
_ESTIMATE = {"value", "low", "high"}


def figures_section(player: Player, outputs: Path) -> str:
    """The last training figures and every estimate about this model in tables of the store, with 95 % intervals."""
    text = ""
    if (last := training(player.folder)) or (last := training(player.result.path)):
        text += "## Last figures of the training\n\n" + table(("figure", "value"), list(last.items())) + "\n"
    if rows := list(_evaluated(player, outputs)):
        text += "## Evaluation\n\n" + table(("table", "figure", "value", "95 % interval", "n"), rows) + "\n"
    return text


def training(folder: Path) -> dict[str, str]:
    """The last value of every figure in `metrics.jsonl`, as text."""
    file = folder / "metrics.jsonl"
    last: dict[str, Any] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        last |= json.loads(line)
    return {name: f"{value:.6g}" for name, value in sorted(last.items()) if isinstance(value, int | float)}


def _evaluated(player: Player, outputs: Path) -> Iterator[tuple[str, ...]]:
    manifests = _manifests(outputs / "store")
    below = descendants(player.result.name, manifests)
    names = {
        f"{recipe['player']}@{player.sequences}" if player.sequences is not None else str(recipe["player"])
        for name in below
        if (recipe := manifests[name]["recipe"]).get("player") and _asks(manifests[name], player.result.name)
    }
    for name in sorted(below):
        for file in sorted((outputs / "store" / name).glob("*.json")):
            if file.name not in _NOT_TABLES:
                for path, estimate in _estimates(json.loads(file.read_text(encoding="utf-8")), ()):
                    if _about(path, names, name, manifests[name], player):
                        interval = f"{_short(estimate['low'])} … {_short(estimate['high'])}"
                        figure = ".".join(part for part in path if part and part not in ("variants", "players"))
                        yield f"`{name}`", figure, _short(estimate["value"]), interval, str(estimate.get("n", ""))


def _about(path: tuple[str, ...], players: set[str], name: str, manifest: Mapping[str, Any], player: Player) -> bool:
    """Whether an estimate is of this model: it names it as a player, or its table was made from it directly."""
    if "players" in path:
        return path[path.index("players") + 1] in players
    return player.sequences is None and _asks(manifest, player.result.name) and name != player.result.name


def _asks(manifest: Mapping[str, Any], name: str) -> bool:
    return name in manifest.get("upstream", {}).values()


def descendants(name: str, manifests: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """All results that were made from `name`, in any number of steps."""
    found = {name}
    while more := {other for other, one in manifests.items() if other not in found and found & _above(one)}:
        found |= more
    return found - {name}


def _above(manifest: Mapping[str, Any]) -> set[str]:
    return set(manifest.get("upstream", {}).values())


def _manifests(store: Path) -> dict[str, dict[str, Any]]:
    return {
        f"{file.parent.parent.name}/{file.parent.name}": json.loads(file.read_text(encoding="utf-8"))
        for file in sorted(store.glob("*/*/manifest.json"))
        if file.parent.suffix != ".partial"
    }


def _estimates(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    if isinstance(value, Mapping) and set(value) >= _ESTIMATE:
        yield path, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _estimates(item, (*path, str(name)))


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
