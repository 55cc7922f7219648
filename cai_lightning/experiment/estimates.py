"""What a plan would cost, before anything is built: rows, model calls and tokens, as the stages themselves estimate.

A stage module may define `estimate(recipe)`; it gets the stage's recipe with each upstream artifact replaced by its own
estimate, and returns an object with `rows`, `calls` and `tokens`, not-a-number where unknown.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

from cai_lightning.experiment.pipeline import Plan
from cai_lightning.experiment.recipe import Edge
from cai_lightning.experiment.signatures import split_target

FIGURES = ("rows", "calls", "tokens")


class Unknown:
    """An artifact of which nothing is known: every figure is not a number."""

    def __getattr__(self, name: str) -> float:
        return math.nan


def estimates(plan: Plan) -> dict[str, Any]:
    """The estimate of every slot; finished artifacts count with the rows that they have."""
    found: dict[str, Any] = {}
    for slot, node in plan.nodes.items():
        estimate = getattr(importlib.import_module(split_target(node.target)[0]), "estimate", None)
        found[slot] = estimate(_estimated(node.values, found)) if estimate else Unknown()
        manifest = plan.store.manifest(node.stage, node.key) or {"files": {}}
        rows = manifest["files"].get("rows.jsonl", {}).get("rows")
        if rows is not None and estimate:
            found[slot] = found[slot]._replace(rows=rows)
    return found


def _estimated(value: Any, found: dict[str, Any]) -> Any:
    if isinstance(value, Edge):
        return found[value.slot]
    if isinstance(value, dict):
        return {name: _estimated(item, found) for name, item in value.items()}
    return [_estimated(item, found) for item in value] if isinstance(value, list) else value


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
