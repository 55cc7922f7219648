"""Elo, rates, frontier: a pure function of verdicts and assessments, over one run or jointly over many."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.stages.verdicts import ASSESSMENTS
from cai_lightning.text.artifacts import Table
from cai_lightning.text.records import Assessment, Verdict, read_rows

if TYPE_CHECKING:
    from cai_lightning.evaluation.summary import Run


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
    in the rows (a snapshot keeps its `@sequences`), so that a sweep can name its variants. A tie is half a win.
    """
    from cai_lightning.evaluation.ties import half_wins

    return _rate(
        out,
        runs,
        anchor=anchor,
        prior_sd=prior_sd,
        reference=reference,
        resamples=resamples,
        seed=seed,
        ties=half_wins,
    )


def davidson(
    out: Path,
    *,
    runs: list[dict[str, Any]],
    anchor: str,
    prior_sd: float,
    reference: float,
    resamples: int,
    seed: int,
) -> Table:
    """`ratings.json` as of `run`, but that a tie is an outcome of its own (evaluation/ties.py)."""
    from cai_lightning.evaluation.ties import davidson

    return _rate(
        out,
        runs,
        anchor=anchor,
        prior_sd=prior_sd,
        reference=reference,
        resamples=resamples,
        seed=seed,
        ties=davidson,
    )


def _rate(out: Path, runs: list[dict[str, Any]], **options: Any) -> Table:
    from cai_lightning.evaluation.summary import ratings

    table = ratings({("", replicate): run for replicate, run in pooled(runs).items()}, **options)
    (out / "ratings.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return out


def pooled(runs: Sequence[Mapping[str, Any]]) -> dict[str, Run]:
    """The verdicts and assessments of each replicate, under the names that `runs` gives to players."""
    from cai_lightning.evaluation.summary import Run

    by_replicate: dict[str, Run] = {}
    for one in runs:
        known = by_replicate.setdefault(str(one["replicate"]), Run([], []))
        by_replicate[str(one["replicate"])] = _with(known, {name: Path(p) for name, p in one["verdicts"].items()})
    return by_replicate


def _with(known: Run, folders: dict[str, Path]) -> Run:
    """`known` and the rows of the players that it does not hold yet, under the names that they have here."""
    from cai_lightning.evaluation.summary import Run

    rows = {name: read_rows(folder, Assessment, ASSESSMENTS) for name, folder in folders.items()}
    names = {_base(found[0].player): name for name, found in rows.items()}
    held = {_base(row.player) for row in known.assessments}
    new = [name for name in folders if name not in held]
    verdicts = [
        dataclasses.replace(row, player=_named(row.player, names), opponent=_named(row.opponent, names))
        for name in new
        for row in read_rows(folders[name], Verdict)
    ]
    assessments = [dataclasses.replace(row, player=_named(row.player, names)) for name in new for row in rows[name]]
    return Run([*known.verdicts, *verdicts], [*known.assessments, *assessments])


def _base(player: str) -> str:
    return player.partition("@")[0]


def _named(player: str, names: dict[str, str]) -> str:
    base, at, sequences = player.partition("@")
    return f"{names.get(base, base)}{at}{sequences}"


def estimate(_: Mapping[str, Any]) -> Estimate:
    """No model is asked."""
    return Estimate(None)
