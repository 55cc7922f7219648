"""What replies look like without any model: released samples, our players' answers, and revision chains."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import AnswerRows, RevisionRows, Table
from cai_lightning.text.records import Answer, Revision, read_rows


def run(
    out: Path,
    *,
    samples: dict[str, Any],
    traces: dict[str, Any],
    answers: dict[str, AnswerRows],
    revisions: dict[str, RevisionRows],
    short: int,
    boilerplate: str,
    refusal: str,
    reason: str,
    gram: int,
    token: str,
) -> Table:
    """`surface.json`: name -> figures, of released `samples` and `traces`, of our `answers` and `revisions`.

    Snapshots are players of their own. Samples also have the within-prompt spread of their score, and its correlation
    with the number of words. What the figures and rules mean: evaluation/surface.py.
    """
    from cai_lightning.evaluation.surface import Rules, describe, describe_chains

    rules = Rules(short=short, boilerplate=boilerplate, refusal=refusal, reason=reason, gram=gram, token=token)
    players: dict[str, dict[str, list[str]]] = {}
    for name, folder in answers.items():
        for row in read_rows(folder, Answer):
            player = name if row.sequences is None else f"{name}@{row.sequences}"
            players.setdefault(player, {}).setdefault(row.prompt.id, []).append(row.text)
    table = {
        "rules": {"short": short, "boilerplate": boilerplate, "refusal": refusal, "reason": reason, "gram": gram},
        "samples": {name: _scored(rows, rules) for name, rows in samples.items()},
        "answers": {player: describe(list(groups.values()), rules) for player, groups in players.items()},
        "traces": {name: describe_chains([row.texts for row in rows]) for name, rows in traces.items()},
        "revisions": {name: describe_chains(_chains(folder)) for name, folder in revisions.items()},
    }
    (out / "surface.json").write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return out


def _scored(rows: list[Any], rules: Any) -> dict[str, Any]:
    from cai_lightning.evaluation.surface import describe, within_correlation, within_sd, word_count

    groups, scores = [row.replies for row in rows], [row.scores for row in rows]
    return describe(groups, rules) | {
        "score_sd": within_sd(scores),
        "score_words_correlation": within_correlation(scores, groups, size=word_count),
    }


def _chains(folder: Path) -> list[list[str]]:
    chains: dict[str, list[Revision]] = {}
    for row in read_rows(folder, Revision):
        chains.setdefault(row.prompt.id, []).append(row)
    ordered = [sorted(chain, key=lambda row: row.round) for chain in chains.values()]
    return [[chain[0].previous, *(row.text for row in chain)] for chain in ordered]


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """A table; no model is asked."""
    del recipe
    return Estimate(None)
