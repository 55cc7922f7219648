"""Signatures read from source text, so that a pipeline is planned and type-checked without importing torch.

A target is `package.module.function` (or a class: then its `__init__`). Annotations are evaluated against builtins,
`typing` and the aliases that the module imports; one that needs more is left unchecked until the target is built.
"""

from __future__ import annotations

import ast
import importlib.util
import pathlib
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any

from cai_lightning.experiment.errors import UserError, nearest

UNCHECKED = object()
_NAMES: dict[str, Any] = {
    **{name: getattr(typing, name) for name in ("Annotated", "Any", "Literal", "Optional", "Union")},
    "Path": pathlib.Path,
    "Sequence": list,
    "Mapping": dict,
}


@dataclass(frozen=True)
class Signature:
    """Keyword parameters with their annotations (UNCHECKED where unknown), those without default, and the result."""

    parameters: dict[str, Any]
    required: tuple[str, ...]
    result: Any


def split_target(target: str) -> tuple[str, str]:
    """Module and attribute of a dotted target."""
    module, _, name = target.rpartition(".")
    if not module:
        raise UserError(f"_target_ {target!r} is no dotted path; write package.module.function")
    return module, name


@cache
def module_file(module: str) -> pathlib.Path:
    """The source file of a module, found without an import: `find_spec` of a dotted name imports its parents."""
    top, *inner = module.split(".")
    spec = importlib.util.find_spec(top) if top else None
    places = [pathlib.Path(place).joinpath(*inner) for place in (spec and spec.submodule_search_locations) or ()]
    if spec and spec.origin and not inner:
        return pathlib.Path(spec.origin)
    for place in places:
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
    raise UserError(f"_target_: no module {module!r}; check the path before the last dot")


@cache
def parse(module: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(module_file(module).read_text(encoding="utf-8"))


@cache
def signature(target: str) -> Signature:
    """The signature of a function, or of a class's `__init__`. Raises UserError when there is no such name."""
    module, name = split_target(target)
    tree = parse(module)
    found = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    if name not in found:
        raise UserError(f"_target_: {module} has no function or class {name!r}.{nearest(name, list(found))}")
    node = found[name]
    if isinstance(node, ast.ClassDef):
        return _of_class(module, node)
    return _of_function(module, node)


def _of_class(module: str, node: ast.ClassDef) -> Signature:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _of_function(module, item)
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
    names = {
        item.target.id: _annotation(module, item.annotation) for item in fields if isinstance(item.target, ast.Name)
    }
    required = tuple(item.target.id for item in fields if item.value is None and isinstance(item.target, ast.Name))
    return Signature(names, required, UNCHECKED)


def _of_function(module: str, node: ast.FunctionDef) -> Signature:
    arguments = [a for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs) if a.arg != "self"]
    positional = [a for a in (*node.args.posonlyargs, *node.args.args)]
    with_default = {a.arg for a in positional[len(positional) - len(node.args.defaults) :] if node.args.defaults}
    pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    with_default |= {argument.arg for argument, default in pairs if default is not None}
    return Signature(
        {a.arg: _annotation(module, a.annotation) for a in arguments},
        tuple(a.arg for a in arguments if a.arg not in with_default),
        _annotation(module, node.returns),
    )


def _annotation(module: str, node: ast.expr | None) -> Any:
    if node is None:
        return UNCHECKED
    names = {**_NAMES}
    for child in ast.walk(node):
        if isinstance(child, ast.Name) and child.id not in names and child.id not in _BUILTINS:
            alias = _alias(module, child.id)
            if alias is UNCHECKED:
                return UNCHECKED
            names[child.id] = alias
    try:
        return eval(compile(ast.Expression(node), "<annotation>", "eval"), {"__builtins__": _BUILTINS}, names)
    except (NameError, AttributeError, TypeError):
        return UNCHECKED


_BUILTINS: dict[str, Any] = {
    name: value
    for name, value in (("int", int), ("float", float), ("str", str), ("bool", bool), ("list", list), ("dict", dict))
} | {"tuple": tuple, "object": object, "None": None}


@cache
def _alias(module: str, name: str) -> Any:
    """The value of a type alias such as `Source`, followed through `from x import name`."""
    for node in parse(module).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return _annotation(module, node.value)
        if isinstance(node, ast.ImportFrom) and node.module:
            for found in node.names:
                if (found.asname or found.name) == name:
                    return _alias(node.module, found.name) if node.module.startswith("cai_lightning.") else UNCHECKED
    return UNCHECKED
