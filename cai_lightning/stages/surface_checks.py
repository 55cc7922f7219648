"""What each reply of players looks like, as rows: for contrasts between players, and over RL samples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import AnswerRows, AssessmentRows
from cai_lightning.text.records import Assessment, write_rows


def run(
    out: Path, *, answers: dict[str, AnswerRows], short: int, boilerplate: str, refusal: str, reason: str
) -> AssessmentRows:
    """Assessment rows of `player` or `player@sequences`, each metric 0 or 1 but for `words`, a count.

    `short` (below that many words), `boilerplate`, `refuses`, `bare` (refuses and gives no reason), `repeated` (the
    same words also answer another prompt of that player). What the rules mean: `evaluation.surface.Rules`.
    """
    from cai_lightning.evaluation.surface import repeats
    from cai_lightning.stages.texts import Text, answered

    players: dict[str, list[Text]] = {}
    for one in answered(answers):
        players.setdefault(one.name, []).append(one)
    rows = []
    for name, texts in players.items():
        again = repeats([one.text for one in texts], [one.prompt.id for one in texts])
        for one, repeated in zip(texts, again, strict=True):
            stock, refuses, explains = (
                re.search(pattern, one.text) is not None for pattern in (boilerplate, refusal, reason)
            )
            words = len(one.text.split())
            seen = {"short": words < short, "boilerplate": stock, "refuses": refuses, "bare": refuses and not explains}
            figures: dict[str, float | None] = {
                key: float(value) for key, value in {"words": words, **seen, "repeated": repeated}.items()
            }
            prompt = one.prompt
            rows.append(
                Assessment(
                    prompt=prompt.id,
                    cluster=prompt.cluster,
                    kind=prompt.kind,
                    player=name,
                    sequences=one.at,
                    metrics=figures,
                )
            )
    write_rows(out, rows)
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """No model is asked."""
    return Estimate(sum(given.rows for given in recipe["answers"].values()))
