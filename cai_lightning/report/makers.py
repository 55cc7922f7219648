"""What made a player's replies and a revision: results of the store, seed, sampler, settings, principles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cai_lightning.report.finished import Finished

LEAVES, LETTERS = 60, 80  # settings of a recipe that are shown, and the characters of each
ANSWERING = ("answers", "best_of_n")
REVISING = ("revise", "revisions")
_SAMPLER = ("temperature", "max_new_tokens", "critique_tokens", "revision_tokens", "n", "stop")


def rated(run: Finished, ratings: str) -> dict[str, list[tuple[str, str]]]:
    """Player -> (replicate, `answers/key`) of the replies that a ratings table rests on, snapshots with their run."""
    found: dict[str, list[tuple[str, str]]] = {}
    for one in run.manifest(ratings).get("recipe", {}).get("runs", []):
        for player, verdicts in one["verdicts"].items():
            manifest = run.manifest(f"verdicts/{verdicts['stage']}")
            if answers := upstream(manifest, "answers"):
                found.setdefault(player, []).append((str(one["replicate"]), answers))
    return found


def upstream(manifest: Mapping[str, Any], parameter: str) -> str | None:
    """The `stage/key` that a recipe's parameter holds; None where it holds no result."""
    value = manifest.get("recipe", {}).get(parameter)
    key = value.get("stage") if isinstance(value, Mapping) else None
    return next((name for name in manifest.get("upstream", {}).values() if key and name.endswith(f"/{key}")), None)


def maker(run: Finished, name: str) -> dict[str, Any]:
    """What is known of a result that holds texts: {"name", "seed", "sampler", "model", "from", "settings"}.

    "model" is the `stage/key` that wrote the texts, "from" what that was made from by its place in the recipe, and
    "settings" the leaves of the model's own recipe, as text.
    """
    manifest = run.manifest(name)
    recipe = manifest.get("recipe", {})
    model = upstream(manifest, "policy") or upstream(manifest, "reviser")
    above = run.manifest(model) if model else {}
    shown = list(leaves({key: value for key, value in above.get("recipe", {}).items() if key != "constitution"}, ""))
    return {
        "name": name,
        "seed": recipe.get("seed"),
        "sampler": {key: recipe[key] for key in _SAMPLER if key in recipe},
        "model": model,
        "from": above.get("upstream", {}),
        "settings": dict(shown[:LEAVES]),
    }


def leaves(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Dotted place and text of every plain value in a recipe, functions by their last name; results are left out."""
    if isinstance(value, Mapping) and set(value) & {"stage", "source"}:
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key not in ("_partial_", "version") and (key != "_target_" or place):
                inner = place if key == "_target_" else f"{place}.{key}".lstrip(".")
                yield from leaves(str(item).rpartition(".")[2] if key == "_target_" else item, inner)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return
    elif value not in (None, [], {}, ""):
        yield place, str(value)[:LETTERS]


def principles(run: Finished, name: str) -> dict[str, list[str]]:
    """Principle id -> its critique and revision requests, of a revising result; empty where its recipe has no words."""
    node = run.manifest(name).get("recipe", {}).get("constitution")
    known = node.get("principles", []) if isinstance(node, Mapping) else []
    return {
        str(one["id"]): [str(one[key]) for key in ("critique", "revision") if one.get(key)]
        for one in known
        if isinstance(one, Mapping) and "id" in one
    }


def constitution(run: Finished, name: str) -> str | None:
    """The name of the constitution in a result's recipe."""
    node = run.manifest(name).get("recipe", {}).get("constitution")
    return str(node["name"]) if isinstance(node, Mapping) and node.get("name") else None
