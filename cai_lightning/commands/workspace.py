"""What a command is given of the store and the configs. A command is `cai <verb>` in `commands/<verb>.py`:

    def main(arguments: list[str], workspace: Workspace) -> int:

`arguments` are those after the verb, overrides (key=value) taken out: these are in force in the workspace already, so
`runtime.outputs=DIR` and `data.root=DIR` work for every command; an option whose value looks like one is written
`--option=key=value`. The result is the exit code. Options and `-h` are argparse's (`prog="cai <verb>"`). A ValueError
becomes one line `cai: ...` and exit code 1. The first line of the module's docstring, "`cai verb X`: what it does.",
is the line in `cai --help`; a module without `main` is no command. What is heavy is imported inside functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Result(Protocol):
    """A finished result of the store, or a folder or file from elsewhere."""

    @property
    def name(self) -> str:
        """`stage/key`; the path as it was given for what is not from the store."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def manifest(self) -> Mapping[str, Any]:
        """`manifest.json`: recipe, upstream, versions, files; empty for what is not from the store or was removed."""

    @property
    def upstream(self) -> Mapping[str, Result]:
        """What it was made from, one step up, by its place in the recipe (`policy`, `labels.0`)."""


class Option(Protocol):
    """One option of a config group, or a YAML file in the place of one."""

    @property
    def value(self) -> dict[str, Any]:
        """The node as it resolves, `_target_` included."""

    def build(self) -> Any:
        """What its `_target_` makes."""

    def place(self, key: str) -> str:
        """`file:line` of a key inside the node, such as "principles[3].revision", or of what is nearest around it."""


class Workspace(Protocol):
    """The store and the composed config that a command works with; its overrides are those of the command line.

    All errors are one line. Nothing is composed before it is asked for.
    """

    @property
    def outputs(self) -> Path:
        """The folder of store, runs and sweeps."""

    def find(self, name: str) -> Result:
        """The result whose key starts with `name` (`stage/key` too), or the existing path. A key wins over a path."""

    def options(self, group: str) -> dict[str, Path]:
        """The YAML files of a config group such as "constitution", by name, from all of Hydra's search path."""

    def option(self, group: str, name: str) -> Option:
        """The option `name` of a config group, or the YAML file at this path; the file wins if `name` has a suffix."""

    def position(self, file: Path, key: str) -> str:
        """`file:line:column` of a key such as "harmful3.prompt" or "[2].prompt" in a JSON file, `file:line` of YAML."""

    def value(self, key: str, *overrides: str) -> Any:
        """The value at a dotted key of the config, resolved; with more overrides for this call."""

    def build(self, key: str, *overrides: str) -> Any:
        """The same with its `_target_` nodes called: readers become their rows, a constitution itself."""


def lineage(result: Result) -> dict[str, Result]:
    """A result and all that it came from, by name, each once, nearest first."""
    found: dict[str, Result] = {}
    queue = [result]
    for one in queue:
        if one.name not in found:
            found[one.name] = one
            queue += one.upstream.values()
    return found
