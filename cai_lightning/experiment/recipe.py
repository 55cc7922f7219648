"""From the composed config to named nodes: the interpolations are the graph, and a node's key is what made it.

A value that is exactly `${stages.x}` is an edge. Every other value enters the key as it resolves; outside files
enter by content. What lies under `stages.*` is hashed, what lies under `runtime.*` is not.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cai_lightning.experiment.digest import Digests, json_digest
from cai_lightning.experiment.errors import UserError, nearest
from cai_lightning.experiment.signatures import UNCHECKED, signature
from cai_lightning.experiment.targets import SOURCE, as_path, check_node, check_value, kinds, source_parameters

EDGE = re.compile(r"^\$\{stages\.(\w+)\}$")
REFERENCE = re.compile(r"^\$\{(\w[\w.]*)\}$")
KEY_DIGITS = 16


@dataclass(frozen=True)
class Edge:
    """A value that stands for another stage's artifact."""

    slot: str


@dataclass(frozen=True)
class Fixed:
    """A value that stands for an artifact already in the store: how a joint stage names the jobs' results."""

    stage: str
    key: str

    @property
    def name(self) -> str:
        """`stage/key`."""
        return f"{self.stage}/{self.key}"


@dataclass(frozen=True)
class Node:
    """One stage of the plan: its slot in the config, its function, its values with edges in place, and its key."""

    slot: str
    target: str
    version: int
    values: dict[str, Any]
    recipe: dict[str, Any]
    upstream: tuple[str, ...]
    key: str = field(default="")

    @property
    def stage(self) -> str:
        """The folder under the store: the stage function's module."""
        return self.target.split(".")[-2]

    @property
    def name(self) -> str:
        """`stage/key`."""
        return f"{self.stage}/{self.key}"


def raw_value(config: DictConfig, path: str, trail: tuple[str, ...] = ()) -> Any:
    """The unresolved value at a dotted path, edges as Edge, plain references followed, all else resolved.

    `trail` are the references that led here. Raises UserError where there is no value, or one that refers to itself.
    """
    parent_path, _, name = path.rpartition(".")
    parent = OmegaConf.select(config, parent_path) if parent_path else config
    if isinstance(parent, ListConfig) and name.isdecimal() and int(name) < len(parent):
        return _walk(config, parent, int(name), path, trail)
    if not isinstance(parent, DictConfig) or name not in parent.keys():  # noqa: SIM118 a key without value is there too
        known = list(parent.keys()) if isinstance(parent, DictConfig) else []
        raise UserError(f"{path}: no such key.{nearest(name, [str(k) for k in known])}")
    return _walk(config, parent, name, path, trail)


def _walk(config: DictConfig, parent: DictConfig | ListConfig, name: Any, path: str, trail: tuple[str, ...]) -> Any:
    node: Any = parent._get_node(name)
    raw = node._value() if hasattr(node, "_value") else node
    if isinstance(raw, str) and (edge := EDGE.match(raw)):
        return Edge(edge.group(1))
    if isinstance(raw, str) and (reference := REFERENCE.match(raw)):
        if (other := reference.group(1)) in trail:
            raise UserError(f"{other}: refers to itself; give it a value")
        return raw_value(config, other, (*trail, other))
    if OmegaConf.is_missing(parent, name):
        raise UserError(f"{path}: no value; set it, for example {path}=...")
    try:
        value = parent[name]
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}") from None
    if isinstance(value, DictConfig):
        return {str(k): _walk(config, value, k, f"{path}.{k!s}", trail) for k in value}
    if isinstance(value, ListConfig):
        return [_walk(config, value, i, f"{path}.{i}", trail) for i in range(len(value))]
    return value


def edges(value: Any) -> list[str]:
    """The slots that a value refers to, in order, each once."""
    if isinstance(value, Edge):
        return [value.slot]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return list(dict.fromkeys(slot for item in items for slot in edges(item)))


def fixed(value: Any, place: str = "") -> dict[str, Fixed]:
    """The artifacts of other runs that a value refers to, by their dotted place in it."""
    if isinstance(value, Fixed):
        return {place: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {
        where: one
        for name, item in items
        for where, one in fixed(item, f"{place}.{name}" if place else f"{name}").items()
    }


def make_node(slot: str, values: Any, keys: dict[str, str], digests: Digests, extra: tuple[str, ...]) -> Node:
    """The node of a slot, checked and with its key, given the keys of its upstream slots."""
    key_path = f"stages.{slot}"
    if not isinstance(values, dict) or "_target_" not in values or "version" not in values:
        raise UserError(f"{key_path}: a stage needs _target_ and version")
    check_value(values["version"], int, f"{key_path}.version")
    check_tree(values, key_path, extra, free=("out",))
    recipe = _hashable(values, keys, digests, key_path)
    target, version = str(values["_target_"]), int(values["version"])
    digest = json_digest(recipe)[:KEY_DIGITS]
    return Node(slot, target, version, values, recipe, tuple(edges(values)), digest)


def check_tree(value: Any, key: str, extra: tuple[str, ...], *, free: tuple[str, ...] = ()) -> None:
    """Raises UserError where a `_target_` node inside a value is wrong; the caller gives the `free` parameters."""
    if isinstance(value, dict):
        if "_target_" in value:
            check_node(value, key, extra, free)
        for name, item in value.items():
            if isinstance(item, dict) and "_target_" in item and "version" in item:
                raise UserError(f"{key}.{name}: a stage is named as exactly ${{stages.NAME}}, by no other reference")
            check_tree(item, f"{key}.{name}", extra)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_tree(item, f"{key}.{index}", extra)


def _hashable(value: Any, keys: dict[str, str], digests: Digests, key: str) -> Any:
    """The recipe: edges replaced by keys, outside files by content digest."""
    if isinstance(value, Edge):
        return {"stage": keys[value.slot]}
    if isinstance(value, Fixed):
        return {"stage": value.key}
    if isinstance(value, list):
        return [_hashable(item, keys, digests, f"{key}.{i}") for i, item in enumerate(value)]
    if isinstance(value, dict):
        sources = source_parameters(value["_target_"]) if "_target_" in value else ()
        return {
            name: {"source": digests.of(as_path(item), f"{key}.{name}")}
            if name in sources and isinstance(item, str)
            else _hashable(item, keys, digests, f"{key}.{name}")
            for name, item in value.items()
        }
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key}: {value} given, but a finite number is wanted")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise UserError(f"{key}: a {type(value).__name__} has no stable identity; use plain YAML values")


def check_edges(key: str, values: dict[str, Any], made: dict[str, str | None]) -> None:
    """Raises UserError where a parameter that takes an artifact is given another kind of artifact, or plain text."""
    wanted = signature(values["_target_"]).parameters if "_target_" in values else {}
    for name, value in values.items():
        needs = kinds(wanted[name]) if wanted.get(name, UNCHECKED) is not UNCHECKED else ()
        if not needs or SOURCE in needs:
            continue
        need = " or ".join(needs)
        for slot in edges(value):
            if made[slot] and made[slot] not in needs:
                raise UserError(f"{key}.{name}: needs {need}, but stages.{slot} makes {made[slot]}")
        if (text := _text(value)) is not None:
            raise UserError(f"{key}.{name}: {text!r} given, but a stage that makes {need} is wanted: ${{stages.NAME}}")


def _text(value: Any) -> str | None:
    """The first plain text in a value."""
    if isinstance(value, str):
        return value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((text for item in items if (text := _text(item)) is not None), None)


def makes(target: str) -> str | None:
    """The kind of artifact that a stage function makes, from its return annotation."""
    found = kinds(signature(target).result)
    return found[0] if len(found) == 1 else None
