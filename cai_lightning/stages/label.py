"""AI feedback: P(a is better) for each comparison, from the letter log-probabilities of a feedback model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from cai_lightning.constitution.principles import Constitution
from cai_lightning.constitution.questions import Asking, FewShotDraw, Order, Pick
from cai_lightning.constitution.reasoning import Reasoning
from cai_lightning.constitution.styles import Style
from cai_lightning.stages.estimates import Estimate, comparing, request, scored, shown
from cai_lightning.text.artifacts import CausalLM, ComparisonRows, LabelRows
from cai_lightning.text.backends import Prompt
from cai_lightning.text.records import Comparison, Label, read_rows


def run(
    out: Path,
    *,
    feedback_model: CausalLM,
    comparisons: ComparisonRows,
    constitution: Constitution,
    style: Style,
    order: Order,
    pick: Pick,
    few_shot_draw: FewShotDraw,
    reasoning_samples: int,
    thought_tokens: int,
    temperature: float,
    clamp: tuple[float, float] | None,
    hard: bool,
    weight: float,
    chunk: int,
    batch_size: int,
    dtype: str,
    route: Literal["packed", "padded"],
    seed: int,
) -> LabelRows:
    """Label rows and `counts.json`: labels with a cut question; how letters are tokenised, and how probable they are.

    Source: Bai et al. 2022, section 4.1, and 4.3 for the clamp. With `reasoning_samples` above 0 the model reasons that
    many times about each question, in at most `thought_tokens`, before it answers; else it answers at once.
    """
    from cai_lightning.constitution.feedback import Thinking, label
    from cai_lightning.constitution.questions import asking
    from cai_lightning.stages.reading import write_counts
    from cai_lightning.stages.sampling import key_of, load_backend
    from cai_lightning.stages.session import progress
    from cai_lightning.text.backends import Sampling
    from cai_lightning.text.chunks import in_chunks

    asks = asking(
        constitution,
        reasoning=reasoning_samples > 0,
        style=style,
        order=order,
        pick=pick,
        few_shot_draw=few_shot_draw,
        seed=seed,
    )
    backend = load_backend(feedback_model, dtype=dtype, batch_size=batch_size, route=route, cut_questions=True)
    sampling = Sampling(temperature, thought_tokens, (), seed)
    thinking = Thinking(backend, reasoning_samples, sampling) if reasoning_samples else None
    rows = read_rows(comparisons, Comparison)
    letters = backend.verify(asks.letters(rows[0])) if rows else {}

    def work(part: Sequence[Comparison]) -> list[Label]:
        made = label(
            backend, part, asks, thinking=thinking, clamp=clamp, hard=hard, weight=weight, model=key_of(feedback_model)
        )
        return [
            replace(row, ended=given.ended, cut=any(prompt in backend.cut for prompt in _asked(asks, given, row)))
            if backend.cut or given.ended != row.ended
            else row
            for given, row in zip(part, made, strict=True)
        ]

    with progress(len(rows), "labels") as advance:
        in_chunks(out, rows, size=chunk, work=work, advance=advance)
    labels = read_rows(out, Label)
    masses = [row.letter_mass for row in labels if row.letter_mass is not None]
    mass = math.fsum(masses) / len(masses) if masses else None
    cut = sum(row.cut for row in labels)
    write_counts(out, {"rows": len(rows), "cut": cut, "letters": letters, "letter_mass": mass})
    return out


def _asked(asks: Asking, given: Comparison, row: Label) -> Iterator[Prompt]:
    """The prompts that a label came from: before each thought, and before each letter."""
    questions = asks.questions(given)
    each = len(row.thoughts) // len(questions)
    for number, question in enumerate(questions):
        yield question.prompt
        if isinstance(asks.form, Reasoning):
            for thought in row.thoughts[number * each :][:each]:
                yield question.query(*asks.form.thought(thought)).prompt


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Raises ValueError where the labels are to follow thoughts and the constitution does not say how to think."""
    if recipe["reasoning_samples"] and not recipe["constitution"].get("reasoning"):
        raise ValueError("reasoning_samples: the constitution has no `reasoning`; give it one, or 0 samples")


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """One scored text a comparison, order and principle; with thoughts, each sampled and then scored."""
    given, thoughts = recipe["comparisons"], recipe["reasoning_samples"]
    orders = 2 if recipe["order"]["_target_"].endswith(".both_orders") else 1
    pick = recipe["pick"]
    everyone = str(pick.get("_target_", "")).endswith(".every")
    principles = comparing(recipe["constitution"]) if everyone else pick.get("count", 1)
    calls = given.rows * orders * principles * (2 * thoughts or 1)
    examples = shown(recipe["constitution"], "reasoning_few_shots" if thoughts else "comparison_few_shots")
    length = examples + given.length + request(recipe["constitution"]) + (recipe["thought_tokens"] if thoughts else 0)
    memory = scored(recipe, recipe["feedback_model"], rows=calls, length=length)
    shape = recipe["feedback_model"].shape
    return Estimate(given.rows, calls, calls * length, given.length, given.rows, memory=memory, shape=shape)
