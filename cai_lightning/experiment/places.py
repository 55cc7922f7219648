"""Where a value stands: file and line of a key in YAML and JSON files, through the files that `defaults` name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

_OUTSIDE = re.compile(r"(?P<file>.+?\.(?:json|ya?ml))(?P<key>(?:\[[^\]]*\])+[^:]*): ", re.DOTALL)
_KEY = re.compile(r"(?P<key>[A-Za-z_]\w*(?:\[[^\]]*\]|\.\w+)*): ")


def chain(file: Path, options: Mapping[str, Path]) -> list[Path]:
    """The files behind an option of a config group, in the order in which they apply; `options` are its siblings.

    Only plain names in `defaults` are followed. A later file's keys hide those of an earlier one.
    """
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    defaults = content.get("defaults", []) if isinstance(content, dict) else []
    names = [name for name in defaults if isinstance(name, str)]
    found: list[Path] = []
    for name in names if "_self_" in names else [*names, "_self_"]:
        if name == "_self_":
            found.append(file)
        elif name in options and options[name] != file:
            found += chain(options[name], options)
    return found


def positions(file: Path) -> dict[str, tuple[int, int]]:
    """Line and column, from 1, of every key (`a.b`, `a[0].c`) of a YAML or JSON file; empty where it is neither."""
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return {key: (mark.line + 1, mark.column + 1) for key, mark in _marks(root, "")}


def _marks(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            inner = f"{key}.{name.value}".lstrip(".")
            yield inner, name.start_mark
            yield from _marks(value, inner)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield f"{key}[{index}]", value.start_mark
            yield from _marks(value, f"{key}[{index}]")


def place(key: str, files: Sequence[Path]) -> str:
    """`file:line` (of JSON `file:line:column`, since all may stand on one line) of a key in the last file that has it.

    A key that is missing is placed at the nearest one around it, and in the last file where there is none. A list is
    never merged: what is missing in it is placed in the last file that has the list.
    """
    key = re.sub(r"\.(\d+)\b", r"[\1]", key)
    top = re.split(r"[\[.]", key)[0]
    file = next((file for file in reversed(files) if top in positions(file)), files[-1])
    known = positions(file)
    while key and key not in known:
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    if not key:
        return str(file)
    line, column = known[key]
    return f"{file}:{line}:{column}" if file.suffix == ".json" else f"{file}:{line}"


def place_of(message: str, files: Sequence[Path]) -> str | None:
    """The place that an error begins with: a key (`principles[3].id: ...`), or a file and a key in it (`x.json[0]`)."""
    if (outside := _OUTSIDE.match(message)) and Path(outside["file"]).is_file():
        # names may stand in brackets too
        key = re.sub(r"\[(\D[^\]]*)\]", r".\1", outside["key"]).lstrip(".")
        return place(key, [Path(outside["file"])])
    inside = _KEY.match(message)
    return place(inside["key"], files) if inside and files else None


def chosen(group: str, hydra: Any) -> list[Path]:
    """The files behind the chosen option of a group, given Hydra's own config; empty where it is not known."""
    known = options(group, hydra)
    name = str(hydra.runtime.choices.get(group))
    return chain(known[name], known) if name in known else []


def options(group: str, hydra: Any) -> dict[str, Path]:
    """The YAML files of a config group by name, from all of the search path, the first of a name."""
    folders = [Path(source.path) / group for source in hydra.runtime.config_sources if source.schema == "file"]
    return {file.stem: file for folder in reversed(folders) for file in sorted(folder.glob("*.yaml"))}
