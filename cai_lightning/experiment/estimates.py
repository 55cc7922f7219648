"""What a plan would cost, before anything is built: rows, model calls, tokens and memory, as the stages estimate.

A stage module may define `estimate(recipe)`; it gets the stage's recipe with each upstream artifact replaced by its own
estimate, and returns an object with `rows`, `calls`, `tokens`, `memory` (bytes at the peak) and `shape` (with its
`parameters`, or None), not-a-number where unknown, and a method `finished(folder, rows)` that takes over what the
finished artifact shows.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

from cai_lightning.experiment.pipeline import Plan
from cai_lightning.experiment.recipe import Edge
from cai_lightning.experiment.signatures import split_target

FIGURES = ("rows", "calls", "tokens")
GIB = 2**30


class Unknown:
    """An artifact of which nothing is known: every figure is not a number."""

    shape = None

    def __getattr__(self, name: str) -> float:
        return math.nan

    def finished(self, _folder: Path, _rows: float | None) -> Unknown:
        """Still nothing."""
        return self


def estimates(plan: Plan) -> dict[str, Any]:
    """The estimate of every slot; finished artifacts count with the rows and the model shape that they have."""
    found: dict[str, Any] = {}
    for slot, node in plan.nodes.items():
        estimate = getattr(importlib.import_module(split_target(node.target)[0]), "estimate", None)
        found[slot] = estimate(_estimated(node.values, found)) if estimate else Unknown()
        manifest = plan.store.manifest(node.stage, node.key)
        if manifest is not None:
            rows = manifest["files"].get("rows.jsonl", {}).get("rows")
            found[slot] = found[slot].finished(plan.store.path(node.stage, node.key), rows)
    return found


def _estimated(value: Any, found: dict[str, Any]) -> Any:
    if isinstance(value, Edge):
        return found[value.slot]
    if isinstance(value, dict):
        return {name: _estimated(item, found) for name, item in value.items()}
    return [_estimated(item, found) for item in value] if isinstance(value, list) else value


def work(plan: Plan, slot: str) -> dict[str, float]:
    """What a stage's seconds depend on, as far as it is known: `tokens`, and the `parameters` of its model."""
    return _work(estimates(plan)[slot])


def _work(estimate: Any) -> dict[str, float]:
    figures = {"tokens": estimate.tokens, "parameters": getattr(estimate.shape, "parameters", None)}
    return {name: value for name, value in figures.items() if value and not math.isnan(value)}


def seconds(plan: Plan, costs: dict[str, Any]) -> dict[str, float]:
    """Seconds of each existing result; of others, those of the newest that the same stage function made.

    These are scaled by tokens and by parameters, where both estimates know them. Not a number where none was made.
    """
    newest: dict[str, dict[str, Any]] = {}
    for stage, key in plan.store.all():
        timing = plan.store.timing(stage, key)
        if timing.get("finished", "") >= newest.get(stage, {}).get("finished", ""):
            newest[stage] = timing
    found = {}
    for slot, node in plan.nodes.items():
        timing = plan.store.timing(node.stage, node.key)
        earlier = newest.get(node.stage, {})
        ratio = math.prod(value / earlier.get(name, value) for name, value in _work(costs[slot]).items())
        found[slot] = timing.get("seconds", earlier.get("seconds", math.nan) * ratio)
    return found


def short(number: float | None) -> str:
    """A count in at most five characters: 950, 12.3k, 4.5M; "?" where unknown, "-" where there is none."""
    if not number:
        return "-"
    if math.isnan(number):
        return "?"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def gib(size: float) -> str:
    """Bytes in GiB, in at most five characters: 0.05, 3.2, 61; "?" where unknown, "-" where there is none."""
    if not size:
        return "-"
    return "?" if math.isnan(size) else f"{size / GIB:.2f}" if size < GIB else f"{size / GIB:.3g}"
