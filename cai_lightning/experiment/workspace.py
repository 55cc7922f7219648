"""Commands of other rooms: found by file name, and the store and configs as they see them.

The other side of this is `commands/workspace.py`, which says what a command may rely on.
"""

from __future__ import annotations

import ast
import copy
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf

from cai_lightning.experiment import places
from cai_lightning.experiment.compose import PACKAGE, compose_config, parse
from cai_lightning.experiment.errors import UserError, nearest, one_line
from cai_lightning.experiment.pipeline import with_sources
from cai_lightning.experiment.recipe import check_tree, edges, raw_value
from cai_lightning.experiment.runtime import check_config
from cai_lightning.experiment.signatures import parse as syntax_tree
from cai_lightning.experiment.store import Store
from cai_lightning.experiment.targets import construct

ROOM = "cai_lightning.commands"
OVERRIDE = re.compile(r"(\+{1,2}|~)?[A-Za-z_][\w.@/]*=")


def commands() -> dict[str, str]:
    """The verbs of the room `commands` with the first line of their docstrings; nothing is imported."""
    trees = {file.stem: syntax_tree(f"{ROOM}.{file.stem}") for file in sorted((PACKAGE / "commands").glob("*.py"))}
    return {
        verb: (ast.get_docstring(tree) or verb).splitlines()[0]
        for verb, tree in trees.items()
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
    }


def command(verb: str, arguments: list[str]) -> int:
    """Runs a command of the room `commands`; its exit code. Raises UserError where it raises ValueError."""
    overrides = [text for text in arguments if OVERRIDE.match(text)]
    parse(overrides)
    rest = [text for text in arguments if text not in overrides]
    if not any(text.startswith("data=") for text in overrides):
        # what a data set is asked for differs from set to set, and a command may be about none of them
        overrides = [f"++{text}" if text.startswith("data.") else text for text in overrides]
    main = importlib.import_module(f"{ROOM}.{verb}").main
    try:
        return int(main(rest, Workspace(tuple(overrides))))
    except ValueError as error:
        raise UserError(str(error)) from error


@dataclass(frozen=True)
class Result:
    """A result of the store, or with an empty manifest a path from elsewhere; see `commands.workspace.Result`."""

    name: str
    path: Path
    manifest: Mapping[str, Any]
    store: Store = field(repr=False)

    @property
    def upstream(self) -> dict[str, Result]:
        """What it was made from, one step up, by its place in the recipe."""
        return {
            place: _result(self.store, *name.split("/")) for place, name in self.manifest.get("upstream", {}).items()
        }


def _result(store: Store, stage: str, key: str) -> Result:
    return Result(f"{stage}/{key}", store.path(stage, key), store.manifest(stage, key) or {}, store)


@dataclass(frozen=True)
class Option:
    """One option of a config group; see `commands.workspace.Option`. `files` are those it is read from, in order."""

    group: str
    value: dict[str, Any]
    files: list[Path]
    allowed: tuple[str, ...]

    def build(self) -> Any:
        """What its `_target_` makes; an error is placed in the file."""
        try:
            return _build(self.value, self.group, self.allowed)
        except ValueError as error:
            at = places.place_of(str(error), self.files)
            raise UserError(f"{at}: {error}" if at else str(error)) from None

    def place(self, key: str) -> str:
        """`file:line` of a key inside the node."""
        return places.place(key, self.files)


def _build(value: Any, key: str, allowed: tuple[str, ...]) -> Any:
    if needed := edges(value):
        raise UserError(f"{key}: needs the result of stages.{needed[0]}; `cai run` makes it")
    check_tree(value, key, allowed)
    return construct(with_sources(value))


@dataclass(frozen=True)
class Workspace:
    """The store and the configs under the overrides of a command line; see `commands.workspace.Workspace`."""

    overrides: tuple[str, ...]

    @cached_property
    def config(self) -> DictConfig:
        """The composed config, checked; Hydra's own node is in it."""
        return self._composed(hydra_config=True)

    @property
    def outputs(self) -> Path:
        """The folder of store, runs and sweeps."""
        return Path(self.config.runtime.outputs)

    def find(self, name: str) -> Result:
        """The result whose key starts with `name`, or what lies at this path."""
        store = Store(self.outputs / "store")
        try:
            return _result(store, *store.find(name))
        except UserError:
            path = Path(name).expanduser()
            if not path.exists():
                raise
            here = path.resolve()
            if here.parent.parent == store.root.resolve() and store.manifest(here.parent.name, here.name):
                return _result(store, here.parent.name, here.name)
            return Result(name, path, {}, store)

    def options(self, group: str) -> dict[str, Path]:
        """The YAML files of a config group by name, from all of Hydra's search path."""
        return places.options(group, self.config.hydra)

    def option(self, group: str, name: str) -> Option:
        """The option of a config group, or the YAML file at this path."""
        known = self.options(group)
        allowed = tuple(self.config.runtime.allow_targets)
        if not name.endswith((".yaml", ".yml")):
            if name not in known:
                raise UserError(f"{group}: no option {name!r}.{nearest(name, list(known))} A file is named with .yaml")
            value = self.value(group, f"{group}={name}")
            return Option(group, value, places.chain(known[name], known), allowed)
        file = Path(name).expanduser()
        files = _files(file, known)
        config = copy.deepcopy(self.config)
        OmegaConf.set_struct(config, False)
        config[group] = OmegaConf.merge(*(OmegaConf.load(one) for one in files))
        config[group].pop("defaults", None)
        return Option(group, raw_value(config, group), files, allowed)

    def position(self, file: Path, key: str) -> str:
        """`file:line` of a key in a YAML or JSON file."""
        return places.place(key, [file])

    def value(self, key: str, *overrides: str) -> Any:
        """The value at a dotted key, resolved."""
        return raw_value(self._composed(*overrides) if overrides else self.config, key)

    def build(self, key: str, *overrides: str) -> Any:
        """The value at a dotted key with its `_target_` nodes checked and called."""
        return _build(self.value(key, *overrides), key, tuple(self.config.runtime.allow_targets))

    def _composed(self, *overrides: str, hydra_config: bool = False) -> DictConfig:
        config = compose_config([*self.overrides, *overrides], hydra_config=hydra_config)
        check_config(config)
        return config


def _files(file: Path, known: Mapping[str, Path]) -> list[Path]:
    """The files behind a YAML file that need not be an option; its neighbours come before the options."""
    try:
        return places.chain(file, {**known, **{one.stem: one for one in file.parent.glob("*.yaml")}})
    except (OSError, ValueError) as error:
        raise UserError(one_line(error)) from None
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
