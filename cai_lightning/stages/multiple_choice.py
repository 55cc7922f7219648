"""Lettered questions of public files, scored by letter log-probabilities in both orders."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import CausalLM, Table


def run(
    out: Path,
    *,
    model: CausalLM,
    questions: dict[str, list[Any]],
    resamples: int,
    batch_size: int,
    dtype: str,
    seed: int,
) -> Table:
    """`evals.json`: for each named file accuracy with a conversation-clustered 95 % interval, n, position bias."""
    from cai_lightning.evaluation.multiple_choice import evaluate
    from cai_lightning.stages.sampling import load_backend

    backend = load_backend(model, dtype=dtype, batch_size=batch_size)
    table = {name: evaluate(backend, rows, resamples=resamples, seed=seed) for name, rows in questions.items()}
    (out / "evals.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Nothing is known of a file of questions before it is read."""
    calls = math.nan if recipe["questions"] else 0.0
    return Estimate(None, calls, calls)
