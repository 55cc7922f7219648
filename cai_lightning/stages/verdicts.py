"""A judge's verdicts on a player's answers against its opponents', and its measurements of each answer alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai_lightning.stages.estimates import REQUEST_TOKENS, Estimate, scored
from cai_lightning.text.artifacts import AnswerRows, VerdictRows
from cai_lightning.text.records import Answer, Assessment, Verdict, read_rows, write_rows

if TYPE_CHECKING:
    from cai_lightning.evaluation.judges import Judge

ASSESSMENTS = "assessments.jsonl"


def run(out: Path, *, answers: AnswerRows, opponents: list[AnswerRows], judge: Judge) -> VerdictRows:
    """Verdict rows (player against each opponent on each prompt, under each criterion of its kind) and assessments.

    Snapshots are players of their own, named `player@sequences`; as opponents only final answers stand. Raises
    ValueError where an opponent has no answer to one of the prompts.
    """
    mine = read_rows(answers, Answer)
    theirs = [{r.prompt.id: r for r in read_rows(path, Answer) if r.sequences is None} for path in opponents]
    for other, path in zip(theirs, opponents, strict=True):
        if missing := [row.prompt.id for row in mine if row.prompt.id not in other]:
            raise ValueError(f"{path}: no answer to prompt {missing[0]}; players must answer the same prompts")
    verdicts = [verdict for other in theirs for row in mine for verdict in _against(row, other[row.prompt.id], judge)]
    write_rows(out, verdicts)
    write_rows(out, (_assessment(row, judge) for row in mine), ASSESSMENTS)
    return out


def player_name(row: Answer) -> str:
    """The player of an answer; a snapshot's name carries its number of RL samples."""
    return row.player if row.sequences is None else f"{row.player}@{row.sequences}"


def _against(row: Answer, other: Answer, judge: Judge) -> list[Verdict]:
    return [
        Verdict(
            prompt=row.prompt.id,
            cluster=row.prompt.cluster,
            kind=row.prompt.kind,
            criterion=criterion,
            player=player_name(row),
            opponent=player_name(other),
            score=judge.compare(criterion, row.prompt.dialogue, row.text, other.text),
        )
        for criterion in judge.criteria_for(row.prompt.kind)
    ]


def _assessment(row: Answer, judge: Judge) -> Assessment:
    return Assessment(
        prompt=row.prompt.id,
        cluster=row.prompt.cluster,
        kind=row.prompt.kind,
        player=player_name(row),
        sequences=row.sequences,
        metrics=judge.assess(row.prompt.dialogue, row.text),
    )


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """One verdict an answer and opponent; a judge that asks a model asks it in both orders."""
    answers = recipe["answers"]
    rows = answers.rows * len(recipe["opponents"])
    scorer, length = recipe["judge"].get("scorer"), 2 * answers.length + REQUEST_TOKENS
    calls = 2 * rows if scorer else 0
    memory = scored(scorer, scorer["path"], rows=calls, length=length) if scorer else 0
    return Estimate(rows, calls, calls * length, prompts=answers.prompts, memory=memory)
