"""Lettered questions of public files, scored by letter log-probabilities in both orders."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

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
    from cai_lightning.evaluation.multiple_choice import evaluate
    from cai_lightning.stages.sampling import load_backend

    ask = partial(ask, load_backend(model, dtype=dtype, batch_size=batch_size, route=route))
    table = {}
    for file in asked(questions, few_shots, leave_out, shots, ask):
        figures = evaluate(file.ask, file.kept, resamples=resamples, seed=seed)
        table[file.name] = figures | {"dropped": len(questions[file.name]) - len(file.kept), "shots": file.shots}
    (out / "evals.json").write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return out


class Asked(NamedTuple):
    """A file's questions that are asked, what asks them, and how many examples stand before each."""

    name: str
    kept: list[Any]
    ask: Callable[..., Any]
    shots: int


def asked(
    questions: Mapping[str, list[Any]],
    few_shots: Mapping[str, list[str]],
    leave_out: Mapping[str, list[str]],
    shots: int,
    ask: Callable[..., Any],
) -> Iterator[Asked]:
    """Each file without the conversations that are shown or left out; `ask` takes what stands in front."""
    from cai_lightning.data.questions import examples, without_examples

    for name, rows in questions.items():
        shown = few_shots.get(name, [])
        kept, _ = without_examples(rows, [*shown, *leave_out.get(name, [])])
        solved, kept = examples(kept, count=shots)
        yield Asked(name, kept, ask(few_shots=shown, solved=solved), len(shown) + len(solved))


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Nothing is known of a file of questions before it is read."""
    calls = math.nan if recipe["questions"] else 0.0
    return Estimate(None, calls, calls, memory=calls)
