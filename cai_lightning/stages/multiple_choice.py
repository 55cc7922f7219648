"""Lettered questions of public files, scored by letter log-probabilities in both orders."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import CausalLM, Table


def run(
    out: Path,
    *,
    model: CausalLM,
    questions: dict[str, list[Any]],
    few_shots: dict[str, list[str]],
    leave_out: dict[str, list[str]],
    shots: int,
    ask: Callable[..., Any],
    resamples: int,
    batch_size: int,
    dtype: str,
    route: Literal["packed", "padded"],
    seed: int,
) -> Table:
    """`evals.json`: for each named file accuracy with a conversation-clustered 95 % interval, n, position bias.

    Before each question stand the file's `few_shots` and `shots` solved questions of its own. A conversation that
    stands in the few-shots, among the solved questions or in `leave_out` is not asked: `dropped` counts those rows.
    `ask` takes the model and what stands in front, and returns what asks questions: letters at once, or after
    reasoning. Further figures: `evaluate`.
    """
    from cai_lightning.data.questions import examples, without_examples
    from cai_lightning.evaluation.multiple_choice import evaluate
    from cai_lightning.stages.sampling import load_backend

    backend = load_backend(model, dtype=dtype, batch_size=batch_size, route=route)
    table = {}
    for name, rows in questions.items():
        shown = few_shots.get(name, [])
        kept, _ = without_examples(rows, [*shown, *leave_out.get(name, [])])
        solved, kept = examples(kept, count=shots)
        figures = evaluate(ask(backend, few_shots=shown, solved=solved), kept, resamples=resamples, seed=seed)
        table[name] = figures | {"dropped": len(rows) - len(kept), "shots": len(shown) + len(solved)}
    (out / "evals.json").write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Nothing is known of a file of questions before it is read."""
    calls = math.nan if recipe["questions"] else 0.0
    return Estimate(None, calls, calls, memory=calls)
