"""Building what a recipe names: `_target_` nodes become calls, inside an allow-list, after every leaf was checked."""

from __future__ import annotations

import functools
import importlib
import json
from pathlib import Path
from typing import Any, get_args, get_origin

from cai_lightning.experiment.errors import UserError, nearest
from cai_lightning.experiment.signatures import UNCHECKED, signature, split_target

RESERVED = ("_target_", "_partial_", "version")
ALLOWED = ("cai_lightning.", "torch.optim.", "lightning.pytorch.")
SOURCE = "source"  # the kind of outside data
FORBIDDEN = ("cai_lightning.experiment.",)


def check_allowed(target: str, key: str, extra: tuple[str, ...]) -> None:
    """Raises UserError unless the target lies in a package that configs may call."""
    allowed = (*ALLOWED, *(f"{package}." for package in extra))
    if target.startswith(FORBIDDEN) or not target.startswith(allowed):
        raise UserError(
            f"{key}._target_: {target!r} is not allowed; targets lie in {', '.join(allowed)}"
            " (add a package of your own under runtime.allow_targets)"
        )


def check_node(node: dict[str, Any], key: str, extra: tuple[str, ...], free: tuple[str, ...] = ()) -> None:
    """Raises UserError when names or types of a `_target_` node do not fit the signature it calls.

    Edges and nested nodes are left to their own checks; torch's and Lightning's targets to the moment they are built.
    The caller gives the parameters in `free`.
    """
    target = str(node["_target_"])
    check_allowed(target, key, extra)
    if not target.startswith("cai_lightning."):
        return
    wanted = signature(target)
    given = [name for name in node if name not in RESERVED]
    for name in given:
        if name not in wanted.parameters:
            raise UserError(f"{key}.{name}: {target} has no such parameter.{nearest(name, list(wanted.parameters))}")
        if isinstance(node[name], dict) and "_target_" in node[name]:
            continue
        check_value(node[name], wanted.parameters[name], f"{key}.{name}")
    missing = [name for name in wanted.required if name not in given and name not in free]
    if missing and not node.get("_partial_", False):
        raise UserError(f"{key}.{missing[0]}: missing; {target} needs it")


def check_value(value: Any, annotation: Any, key: str) -> None:
    """Raises UserError when a leaf does not fit its annotation; a value read from YAML, so tuples come as lists."""
    if annotation is UNCHECKED or annotation is object or annotation is Any or _holds_special(value):
        return
    from pydantic import TypeAdapter, ValidationError
    from pydantic.errors import PydanticUserError

    try:
        TypeAdapter(annotation).validate_json(json.dumps(value), strict=True)
    except PydanticUserError:
        return
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([key, *(str(part) for part in first["loc"] if isinstance(part, int) or part in str(value))])
        for part in first["loc"]:  # a part may also name a member of a union
            inner = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else {}
            value = inner.get(part, value)
        raise UserError(f"{place}: {value!r} given, but {_describe(annotation)} is wanted ({first['msg']})") from None


def _holds_special(value: Any) -> bool:
    """Whether a value holds an edge or a nested node, which are checked elsewhere."""
    if isinstance(value, dict):
        return "_target_" in value or any(_holds_special(item) for item in value.values())
    if isinstance(value, list):
        return any(_holds_special(item) for item in value)
    return not isinstance(value, str | int | float | bool | None)


def _describe(annotation: Any) -> str:
    if SOURCE in kinds(annotation):
        return "a path"
    if get_origin(annotation) is None:
        return getattr(annotation, "__name__", str(annotation))
    return str(annotation).replace("typing.", "")


def kinds(annotation: Any) -> tuple[str, ...]:
    """The artifact kinds that an annotation admits, such as Annotated[Path, "rows/label"], in the order given; also
    inside list, dict and Optional. More than one where artifacts of either kind will do: `CausalLM | RewardModel`.
    """
    metadata = getattr(annotation, "__metadata__", None)
    if metadata and isinstance(metadata[0], str):
        return (str(metadata[0]),)
    return tuple(dict.fromkeys(found for argument in get_args(annotation) for found in kinds(argument)))


def locate(target: str) -> Any:
    """The object that a target names, imported now."""
    module, name = split_target(target)
    return getattr(importlib.import_module(module), name)


def construct(value: Any) -> Any:
    """A value ready to be passed: nested `_target_` nodes called (or made partial), innermost first."""
    if isinstance(value, list):
        return [construct(item) for item in value]
    if not isinstance(value, dict):
        return value
    arguments = {name: construct(item) for name, item in value.items() if name not in RESERVED}
    if "_target_" not in value:
        return arguments
    function = locate(value["_target_"])
    if value.get("_partial_", False):
        return functools.partial(function, **arguments)
    return function(**arguments)


def source_parameters(target: str) -> tuple[str, ...]:
    """The parameters of a target that are outside files: hashed by content, not by path."""
    if not target.startswith("cai_lightning."):
        return ()
    return tuple(name for name, annotation in signature(target).parameters.items() if SOURCE in kinds(annotation))


def as_path(value: Any) -> Path:
    """A config string as a path, `~` expanded."""
    return Path(str(value)).expanduser()
