"""What a result came from, as facts and as the sections of a card: recipes, constitutions, lineage, versions."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cai_lightning.commands.workspace import Result, Workspace, lineage
from cai_lightning.constitution.principles import Constitution

_ROOM = "cai_lightning.constitution."
_FACTS = ("recipe", "upstream", "code", "packages", "python")


def write_recipes(result: Result, out: Path) -> None:
    """Writes `out/recipe.json`: for the result and all that it came from, what made it and with which versions."""
    facts = {
        name: {key: one.manifest[key] for key in _FACTS if key in one.manifest}
        for name, one in lineage(result).items()
        if one.manifest
    }
    text = json.dumps({"result": result.name, "made_by": facts}, indent=1, sort_keys=True)
    (out / "recipe.json").write_text(text + "\n", encoding="utf-8")


def nearest(result: Result, stage: str) -> Result | None:
    """The nearest result of a stage function's module, such as "revise", in a lineage."""
    return next((one for one in lineage(result).values() if one.manifest.get("stage") == stage), None)


def constitutions(result: Result, workspace: Workspace) -> dict[str, Constitution | Mapping[str, Any]]:
    """The constitutions in a lineage by name, nearest first; as the bare recipe where its files are not at hand."""
    found: dict[str, Constitution | Mapping[str, Any]] = {}
    for one in lineage(result).values():
        node = one.manifest.get("recipe", {}).get("constitution")
        if isinstance(node, Mapping) and node.get("name") not in found:
            found[str(node.get("name"))] = constitution(node, workspace) or node
    return found


def constitution(node: Mapping[str, Any], workspace: Workspace) -> Constitution | None:
    """The constitution that a recipe describes.

    Where the recipe holds digests of files, it is the option of the same name; None where there is none.
    """
    if not list(_sources(node)):
        own = made(node)
        return own if isinstance(own, Constitution) else None
    for name in workspace.options("constitution"):
        try:
            one = workspace.option("constitution", name).build()
        except Exception:  # an option may need data that are not here, or be of another kind
            continue
        if isinstance(one, Constitution) and one.name == node.get("name"):
            return one
    return None


def _sources(value: Any) -> Iterator[str]:
    """The digests of outside files in a recipe."""
    if isinstance(value, Mapping):
        if set(value) == {"source"}:
            yield str(value["source"])
        for item in value.values():
            yield from _sources(item)
    elif isinstance(value, list):
        for item in value:
            yield from _sources(item)


def made(value: Any) -> Any:
    """What the nodes of the room `constitution` in a recipe make; None in place of any other node."""
    if isinstance(value, list):
        return [made(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    keywords = {str(name): made(item) for name, item in value.items() if name not in ("_target_", "_partial_")}
    target = value.get("_target_")
    if target is None:
        return keywords
    if not str(target).startswith(_ROOM):
        return None
    module, _, name = str(target).rpartition(".")
    function = getattr(importlib.import_module(module), name)
    return partial(function, **keywords) if value.get("_partial_") else function(**keywords)


def constitution_section(found: Mapping[str, Constitution | Mapping[str, Any]]) -> str:
    """The principles as text, each with the hash of its words; empty without a constitution."""
    parts = []
    for name, one in found.items():
        parts.append(f"## Constitution `{name}`\n\n")
        if not isinstance(one, Constitution):
            digests = ", ".join(_sources(one))
            parts.append(f"Read from files that are not at hand; their SHA-256: {digests}.\n\n")
            continue
        for principle in one.principles:
            parts.append(f"- **{principle.id}** (`{principle.hash}`)\n")
            for kind in ("critique", "revision", "comparison"):
                if words := getattr(principle, kind):
                    parts.append(f"  - {kind}: {' '.join(str(words).split())}\n")
        parts.append("\n")
    return "".join(parts)


def lineage_section(result: Result) -> str:
    """A table of every result on the way, nearest first: key, version, seed, and what it was made from."""
    if not result.manifest:
        return ""
    rows = []
    for name, one in lineage(result).items():
        recipe = one.manifest.get("recipe", {})
        above = ", ".join(f"{place}: `{other}`" for place, other in one.manifest.get("upstream", {}).items())
        rows.append([f"`{name}`", recipe.get("version", ""), recipe.get("seed", ""), above or "outside"])
    return "## Lineage\n\n" + table(("result", "version", "seed", "made from"), rows) + "\n"


def versions_section(result: Result) -> str:
    """Versions and machine that made the result."""
    if not result.manifest:
        return ""
    packages = {"python": result.manifest.get("python"), **result.manifest.get("packages", {})}
    listed = ", ".join(f"{name} {version}" for name, version in packages.items())
    return f"## Versions\n\n{listed}; {result.manifest.get('machine', 'unknown machine')}.\n\n"


def recipe_section(result: Result) -> str:
    """The numbers and choices that the result itself was made with; what is nested stands under its dotted key."""
    rows = [[f"`{key}`", f"`{value}`"] for key, value in _leaves(result.manifest.get("recipe", {}), "")]
    return f"## Recipe of `{result.name}`\n\n" + table(("setting", "value"), rows) + "\n" if rows else ""


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """The single values of a recipe; constitutions and edges, which have sections of their own, are left out."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if name not in ("constitution", "stage", "_partial_"):
                yield from _leaves(item, f"{key}.{name}".lstrip(".").removesuffix("._target_"))
    elif not isinstance(value, list) or all(not isinstance(item, dict | list) for item in value):
        yield key, json.dumps(value, ensure_ascii=False)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
