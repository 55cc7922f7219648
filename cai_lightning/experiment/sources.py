"""The digest of the source text that a stage runs, so that `plan` can say what an edit may have changed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from cai_lightning.experiment.errors import UserError
from cai_lightning.experiment.signatures import module_file, split_target

# by pattern, since syntax trees of all files would take a third of the time of `cai plan`
IMPORT = re.compile(r"^[ \t]*(?:from ([\w.]+) import (\([^)]*\)|.*)|import (.*))", re.MULTILINE)
VERSIONED = ("torch.", "lightning.")  # the manifest has their versions


def source_digest(recipe: Any) -> str:
    """A digest of the source files behind a recipe: its targets' modules and all of the package that they import."""
    return _digest(tuple(sorted({split_target(target)[0] for target in _targets(recipe)})))


def _targets(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if not str(value.get("_target_", VERSIONED[0])).startswith(VERSIONED):
            yield str(value["_target_"])
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _targets(item)


@cache
def _digest(modules: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for file in sorted({file for module in modules for file in package_sources(module)}):
        digest.update(_content(file))
    return digest.hexdigest()[:16]


@cache
def _content(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()


@cache
def package_sources(module: str) -> tuple[Path, ...]:
    """The source files of a module and of every module of the same package that it imports, directly or not."""
    seen: dict[str, Path] = {}
    queue = [module]
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        try:
            seen[name] = module_file(name)
        except UserError:  # the name of a function or class
            continue
        queue += _imports(name)
    return tuple(sorted(seen.values()))


@cache
def _imports(module: str) -> tuple[str, ...]:
    """The names under the module's own top package that it imports, anywhere in it; some may be no modules."""
    inside = module.partition(".")[0] + "."
    found: list[str] = []
    for source, names, modules in IMPORT.findall(module_file(module).read_text(encoding="utf-8")):
        if source.startswith(inside):
            found += [source, *(f"{source}.{name}" for name in re.findall(r"\w+", names))]
        found += [name for name in re.findall(r"[\w.]+", modules) if name.startswith(inside)]
    return tuple(found)
