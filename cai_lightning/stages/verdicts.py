"""A judge's verdicts on a player's answers against its opponents', and its measurements of each answer alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai_lightning.stages.estimates import REQUEST_TOKENS, Estimate, scored
from cai_lightning.text.artifacts import AnswerRows, VerdictRows
from cai_lightning.text.records import Answer, Assessment, Verdict, read_rows, write_rows

if TYPE_CHECKING:
    from cai_lightning.evaluation.judges import Judge

ASSESSMENTS = "assessments.jsonl"
Pairing = tuple[Answer, Answer, str]  # an answer, the opponent's to the same prompt, a criterion


def run(out: Path, *, answers: AnswerRows, opponents: list[AnswerRows], judge: Judge, chunk: int) -> VerdictRows:
    """Verdict rows (player against each opponent on each prompt, under each criterion of its kind) and assessments.

    Snapshots are players of their own, named `player@sequences`; as opponents only final answers stand. Raises
    ValueError where an opponent has no answer to one of the prompts.
    """
    from cai_lightning.stages.session import progress
    from cai_lightning.text.chunks import in_chunks

    mine = read_rows(answers, Answer)
    theirs = [{r.prompt.id: r for r in read_rows(path, Answer) if r.sequences is None} for path in opponents]
    for other, path in zip(theirs, opponents, strict=True):
        if missing := [row.prompt.id for row in mine if row.prompt.id not in other]:
            raise ValueError(f"{path}: no answer to prompt {missing[0]}; players must answer the same prompts")
    pairings = [
        (row, other[row.prompt.id], criterion)
        for other in theirs
        for row in mine
        for criterion in judge.criteria_for(row.prompt.kind)
    ]

    def work(some: Sequence[Pairing]) -> list[Verdict]:
        matches = [(criterion, row.prompt.dialogue, row.text, other.text) for row, other, criterion in some]
        return [_verdict(*pairing, score) for pairing, score in zip(some, judge.compare_all(matches), strict=True)]

    with progress(len(pairings), "verdicts") as advance:
        in_chunks(out, pairings, size=chunk, work=work, advance=advance)
    # after the verdicts and anew every time, so a killed stage leaves no half of them behind
    write_rows(out, (_assessment(row, judge) for row in mine), ASSESSMENTS)
    return out


def player_name(row: Answer) -> str:
    """The player of an answer; a snapshot's name carries its number of RL samples."""
    return row.player if row.sequences is None else f"{row.player}@{row.sequences}"


def _verdict(row: Answer, other: Answer, criterion: str, score: float) -> Verdict:
    return Verdict(
        prompt=row.prompt.id,
        cluster=row.prompt.cluster,
        kind=row.prompt.kind,
        criterion=criterion,
        player=player_name(row),
        opponent=player_name(other),
        score=score,
    )


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
