"""Whether each question of public files is answered right, as rows: for contrasts between models and ways of asking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from cai_lightning.stages.estimates import Estimate
from cai_lightning.stages.multiple_choice import asked
from cai_lightning.stages.multiple_choice import estimate as _estimate
from cai_lightning.text.artifacts import AssessmentRows, CausalLM
from cai_lightning.text.records import Assessment, write_rows


def run(
    out: Path,
    *,
    player: str,
    model: CausalLM,
    questions: dict[str, list[Any]],
    few_shots: dict[str, list[str]],
    leave_out: dict[str, list[str]],
    shots: int,
    ask: Callable[..., Any],
    batch_size: int,
    dtype: str,
    route: Literal["packed", "padded"],
) -> AssessmentRows:
    """Assessment rows of `player`, one a question: `right` (0 to 1), `right_first`, `position_bias`.

    `right` reads the letters in both orders, `right_first` in the file's alone; the bias is in nats. `kind` is the
    file, clusters are conversations. What is asked and how: `multiple_choice`.
    Raises ValueError where there is no file of questions.
    """
    from cai_lightning.evaluation.multiple_choice import answered
    from cai_lightning.stages.sampling import load_backend

    if not questions:
        raise ValueError("questions: none given; name files that hold some: experiment=hh_files data.root=DATA")
    ask = partial(ask, load_backend(model, dtype=dtype, batch_size=batch_size, route=route))
    found = [
        Assessment(
            prompt=question.id,
            cluster=question.cluster,
            kind=file.name,
            player=player,
            sequences=None,
            metrics=dict(answer._asdict()),
        )
        for file in asked(questions, few_shots, leave_out, shots, ask)
        for question, answer in zip(file.kept, answered(file.ask, file.kept), strict=True)
    ]
    write_rows(out, found)
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """As of multiple_choice."""
    return _estimate(recipe)
