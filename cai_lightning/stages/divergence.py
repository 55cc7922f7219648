"""How far a player and its snapshots have moved from a reference, on their own answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate, scored
from cai_lightning.text.artifacts import AnswerRows, AssessmentRows, CausalLM
from cai_lightning.text.records import Answer, Assessment, read_rows, write_rows

METRICS = ("kl", "log_ratio")


def run(
    out: Path, *, answers: AnswerRows, policy: CausalLM, reference: CausalLM, batch_size: int, dtype: str
) -> AssessmentRows:
    """Assessment rows: `kl` and `log_ratio` in nats of every answer of `policy`, and of its snapshots, to `reference`.

    What they are: models/divergence.py. The answers must be samples of that policy, for the figures are means over its
    own replies; those of greedy sampling (temperature 0) have none and raise ValueError.
    """
    from cai_lightning.models.causal import load_causal
    from cai_lightning.models.divergence import divergences
    from cai_lightning.models.format import Format
    from cai_lightning.stages.session import device, prepare, progress
    from cai_lightning.stages.verdicts import player_name

    prepare()
    rows = read_rows(answers, Answer)
    if any(row.temperature <= 0 for row in rows):
        raise ValueError(f"{answers}: sampled at temperature 0; a divergence needs answers at a temperature above 0")
    by_step: dict[int | None, list[Answer]] = {}
    for row in rows:
        by_step.setdefault(row.sequences, []).append(row)
    start, _ = load_causal(reference, dtype=dtype)
    start.to(device())

    def measured(part: Sequence[Answer], at: int | None) -> Iterator[Assessment]:
        model, tokenizer = load_causal(_at(policy, at), dtype=dtype)
        found = divergences(
            model.to(device()),
            start,
            Format(tokenizer),
            [row.prompt.dialogue for row in part],
            [row.text for row in part],
            [row.finish == "stop" for row in part],
            temperature=part[0].temperature,
            batch_size=batch_size,
        )
        for row, one in zip(part, found, strict=True):
            yield Assessment(
                prompt=row.prompt.id,
                cluster=row.prompt.cluster,
                kind=row.prompt.kind,
                player=player_name(row),
                sequences=row.sequences,
                metrics=one._asdict(),
            )

    made: list[Assessment] = []
    with progress(len(rows), "answers") as advance:
        for at, part in by_step.items():
            made += measured(part, at)
            advance(len(part))
    write_rows(out, made)
    return out


def _at(policy: Path, sequences: int | None) -> Path:
    return policy if sequences is None else policy / "snapshots" / f"{sequences:08d}"


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Every answer read by two models."""
    given = recipe["answers"]
    memory = 2 * scored(recipe, recipe["policy"], rows=given.rows, length=given.length)
    return Estimate(
        given.rows, 2 * given.rows, 2 * given.rows * given.length, given.length, given.prompts, memory=memory
    )
