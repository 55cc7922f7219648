"""Elo, rates, frontier: a pure function of verdicts and assessments, over one run or jointly over many."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from cai_lightning.text.artifacts import Table
from cai_lightning.text.records import Assessment, Verdict, read_rows


def run(
    out: Path,
    *,
    runs: list[dict[str, Any]],
    anchor: str,
    prior_sd: float,
    reference: float,
    resamples: int,
    seed: int,
) -> Table:
    """`ratings.json`: every player's Elo and rates with 95 % intervals, win matrices, frontier and hypervolume.

    `runs` holds, for each replicate, the verdict folder of every player by name. A name given here replaces the one
    in the rows (a snapshot keeps its `@sequences`), so that a sweep can name its variants.
    """
    from cai_lightning.evaluation.summary import Run, ratings

    by_replicate: dict[str, Run] = {}
    for one in runs:
        known = by_replicate.setdefault(str(one["replicate"]), Run([], []))
        names = {row.player for row in known.assessments}
        verdicts, assessments = list(known.verdicts), list(known.assessments)
        for player, folder in one["verdicts"].items():
            if player not in names:
                verdicts += [_renamed(row, player) for row in read_rows(Path(folder), Verdict)]
                assessments += [_renamed(row, player) for row in read_rows(Path(folder), Assessment, "assessments.jsonl")]
        by_replicate[str(one["replicate"])] = Run(verdicts, assessments)
    table = ratings(
        {("", replicate): run for replicate, run in by_replicate.items()},
        anchor=anchor,
        prior_sd=prior_sd,
        reference=reference,
        resamples=resamples,
        seed=seed,
    )
    (out / "ratings.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return out


def _renamed(row: Any, player: str) -> Any:
    _, at, sequences = row.player.partition("@")
    return dataclasses.replace(row, player=f"{player}{at}{sequences}")
