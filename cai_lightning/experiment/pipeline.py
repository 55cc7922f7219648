"""The plan of a config, and its execution: what the report needs, in order, each stage once.

Only stages that the `report` node reaches are planned; a stage that nobody references is never built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from omegaconf import DictConfig

from cai_lightning.experiment import launch
from cai_lightning.experiment.digest import Digests
from cai_lightning.experiment.errors import UserError, nearest
from cai_lightning.experiment.recipe import (
    Edge,
    Fixed,
    Node,
    check_edges,
    check_tree,
    edges,
    fixed,
    make_node,
    makes,
    raw_value,
)
from cai_lightning.experiment.signatures import split_target
from cai_lightning.experiment.sources import source_digest
from cai_lightning.experiment.store import Built, Store
from cai_lightning.experiment.targets import construct, source_parameters

LIGHT = "cai_lightning.constitution."  # made while planning: all text, no torch, a millisecond or two


@dataclass(frozen=True)
class Plan:
    """Nodes in an order in which each comes after its upstream, and the values of the report that ends a run."""

    nodes: dict[str, Node]
    report: dict[str, Any]
    store: Store

    def have(self, slot: str) -> bool:
        """Whether the artifact of a slot is finished."""
        node = self.nodes[slot]
        return self.store.manifest(node.stage, node.key) is not None

    def names(self) -> dict[str, str]:
        """The `stage/key` of every slot."""
        return {slot: node.name for slot, node in self.nodes.items()}


def make_plan(config: DictConfig) -> Plan:
    """The checked plan of a composed config. Raises UserError; writes nothing but the digest cache."""
    outputs = Path(config.runtime.outputs)
    digests = Digests(outputs / "store" / ".digests.json")
    extra = tuple(config.runtime.allow_targets)
    report = raw_value(config, "report")
    check_tree(report, "report", extra, free=("folder", "run"))
    nodes: dict[str, Node] = {}
    for slot in edges(report):
        _visit(config, slot, nodes, digests, extra, ())
    check_edges("report", report, {name: makes(nodes[name].target) for name in edges(report)})
    digests.save()
    return Plan(nodes, report, Store(outputs / "store"))


def _visit(
    config: DictConfig,
    slot: str,
    nodes: dict[str, Node],
    digests: Digests,
    extra: tuple[str, ...],
    trail: tuple[str, ...],
) -> None:
    if slot in nodes:
        return
    if slot in trail:
        raise UserError(f"stages.{slot}: depends on itself by way of {' <- '.join((*trail, slot))}")
    if config.stages.get(slot) is None:
        known = [str(name) for name in config.stages if name != slot]
        raise UserError(f"{f'stages.{trail[-1]}' if trail else 'report'}: no stage {slot!r}.{nearest(slot, known)}")
    values = raw_value(config, f"stages.{slot}")
    for upstream in edges(values):
        _visit(config, upstream, nodes, digests, extra, (*trail, slot))
    node = make_node(slot, values, {name: nodes[name].key for name in edges(values)}, digests, extra)
    check_edges(f"stages.{slot}", values, {name: makes(nodes[name].target) for name in node.upstream})
    check_buildable(values, f"stages.{slot}")
    check_recipe(node)
    nodes[slot] = node


def check_recipe(node: Node) -> None:
    """Raises UserError where the stage's own `check_recipe`, if it has one, objects to its values."""
    check = getattr(importlib.import_module(split_target(node.target)[0]), "check_recipe", None)
    if check is not None:
        try:
            check(node.values)
        except ValueError as error:
            raise UserError(f"stages.{node.slot}: {error}") from None


def check_buildable(value: Any, key: str) -> None:
    """Raises UserError where a node inside a value that is light to make cannot be made."""
    if isinstance(value, dict):
        if str(value.get("_target_", "")).startswith(LIGHT) and not edges(value):
            try:
                construct(with_sources(value))
            except ValueError as error:
                raise UserError(f"{key}: {error}") from None
            return
        for name, item in value.items():
            check_buildable(item, f"{key}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_buildable(item, f"{key}.{index}")


def upstream(plan: Plan, node: Node) -> dict[str, str]:
    """The `stage/key` of all that a node is made from: edges by their slot, artifacts of other runs by their place."""
    return {name: plan.nodes[name].name for name in node.upstream} | {
        place: value.name for place, value in fixed(node.values).items()
    }


def stale(plan: Plan, slot: str) -> str | None:
    """Why an existing artifact may not be what would be made today, or None."""
    node = plan.nodes[slot]
    manifest = plan.store.manifest(node.stage, node.key)
    if manifest is None:
        return None
    if manifest["code"] != source_digest(node.recipe):
        return "source changed since"
    made_from = manifest.get("content", {})
    today = {name: plan.store.content(*artifact.split("/")) for name, artifact in upstream(plan, node).items()}
    changed = [name for name, content in today.items() if content and content != made_from.get(name, content)]
    return f"{changed[0]} made anew since" if changed else None


def with_paths(value: Any, plan: Plan) -> Any:
    """A value with edges replaced by artifact paths and outside files by paths."""
    return with_sources(_with_artifacts(value, plan))


def _with_artifacts(value: Any, plan: Plan) -> Any:
    if isinstance(value, Edge):
        node = plan.nodes[value.slot]
        return plan.store.path(node.stage, node.key)
    if isinstance(value, Fixed):
        return plan.store.path(value.stage, value.key)
    if isinstance(value, list):
        return [_with_artifacts(item, plan) for item in value]
    if isinstance(value, dict):
        return {name: _with_artifacts(item, plan) for name, item in value.items()}
    return value


def with_sources(value: Any) -> Any:
    """A value with outside files as paths, `~` expanded."""
    if isinstance(value, list):
        return [with_sources(item) for item in value]
    if isinstance(value, dict):
        sources = source_parameters(value["_target_"]) if "_target_" in value else ()
        return {
            name: Path(item).expanduser() if name in sources and isinstance(item, str) else with_sources(item)
            for name, item in value.items()
        }
    return value


def build(
    plan: Plan,
    slot: str,
    work: Mapping[str, float] = MappingProxyType({}),
    begun: Callable[[Path], None] = lambda _: None,
) -> Built:
    """The artifact of one slot, whose upstream artifacts exist; `work`, what it was to cost, goes into its timing.

    `begun` hears where it is being made, unless it is there already.
    """
    node = plan.nodes[slot]
    made_from = upstream(plan, node)
    about = {
        "stage": node.stage,
        "key": node.key,
        "target": node.target,
        "version": node.version,
        "recipe": node.recipe,
        "upstream": made_from,
        "content": {name: plan.store.content(*artifact.split("/")) for name, artifact in made_from.items()},
        "code": source_digest(node.recipe),
    }

    def make(folder: Path) -> dict[str, Any]:
        values = {k: v for k, v in with_paths(node.values, plan).items() if k not in ("_target_", "version")}
        begun(folder)
        return {**work, **launch.make(folder, node.target, values)}

    return plan.store.build(node.stage, node.key, about, make)
