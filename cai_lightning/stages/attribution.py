"""Which principle does what to the labels: leave-one-out, add-one and swaps, from labels under every principle."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai_lightning.constitution.by_principle import log_odds_by_principle
from cai_lightning.constitution.principles import Constitution, Principle
from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import Table
from cai_lightning.text.records import Label, read_rows

if TYPE_CHECKING:
    from cai_lightning.evaluation.attribution import Views
    from cai_lightning.evaluation.harm_categories import Harm
    from cai_lightning.evaluation.intervals import Floats
    from cai_lightning.evaluation.pooling import Pool

FILE = "attribution.json"
CRITERIA = ("harmless", "helpful")
Covers = Callable[[str], frozenset[str]]
"""The words of a principle -> the categories of harm that it names."""


def run(
    out: Path,
    *,
    runs: list[dict[str, Any]],
    constitution: Constitution,
    truth: str,
    pool: Pool,
    harm: Harm | None,
    covers: Covers | None,
    flips: int,
    resamples: int,
    seed: int,
) -> Table:
    """`attribution.json`: effects of every principle that compares, with 95 % intervals; redundancy; flipped labels.

    Each run has `labels` under every principle by criterion, and in `truths` labels of the same pairs that are right,
    or none: then a principle is measured against the side of the whole constitution. `truth` says in words what the
    truths are. `harm` finds categories in a reply; null where there are none. Raises ValueError on labels that were not
    made under each principle, and on two runs of one replicate.
    """
    from cai_lightning.evaluation.attribution import from_log_odds

    check_replicates(runs)
    names = [principle.id for principle in constitution.comparing]
    views: dict[str, Views] = {}
    known: dict[str, str] = {}
    for criterion in _criteria(runs):
        rows, replicates, logits, better = _pairs(runs, criterion, names)
        views[criterion] = from_log_odds(rows, replicates, logits, better, pool)
        known[criterion] = truth if better is not None else "the label of the whole constitution"
    facts = {
        "constitution": constitution.name,
        "through": "labels",
        "truth_is": known,
        "replicates": [one["replicate"] for one in runs],
    }
    table = tabled(
        facts, constitution.comparing, views, harm=harm, covers=covers, flips=flips, resamples=resamples, seed=seed
    )
    (out / FILE).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return out


def tabled(
    facts: Mapping[str, Any],
    principles: Sequence[Principle],
    views: Mapping[str, Views],
    *,
    harm: Harm | None,
    covers: Covers | None,
    flips: int,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """The whole artifact as JSON from the views of each criterion; categories and redundancy are of the first."""
    from cai_lightning.evaluation import attribution, harm_categories
    from cai_lightning.evaluation.redundancy import redundancy

    at = {name: one.places(resamples=resamples, seed=seed) for name, one in views.items()}
    first = next(iter(views))
    covered = [covers(one.comparison or "") if covers else None for one in principles]
    listed = [
        {"id": one.id, "text": one.comparison, "covers": None if named is None else sorted(named)}
        for one, named in zip(principles, covered, strict=True)
    ]
    cells = harm_categories.cells(views[first], at[first], harm) if harm else None
    same = redundancy(views[first], at[first])
    named = [names for names in covered if names is not None]
    return {
        **facts,
        "pairs": sum(len(one.rows) for one in views.values()),
        "whole": {name: attribution.of_the_whole(one, at[name]) for name, one in views.items()},
        "principles": attribution.principles(listed, views, at, count=flips),
        "swap": {name: attribution.swaps(one, at[name]) for name, one in views.items()},
        "redundancy": same and {"principles": [one.id for one in principles], **same},
        "categories": harm_categories.by_category(cells, at[first]) if cells else None,
        "truth": harm_categories.truth(cells, at[first], named) if cells and covers else None,
    }


def check_replicates(runs: Sequence[Mapping[str, Any]]) -> None:
    """Raises ValueError where two runs are of one replicate, or name another criterion: only seeds are pooled."""
    seeds = [one["replicate"] for one in runs]
    odd = [name for one in runs for name in one.get("labels", {}) if name not in CRITERIA]
    if len(set(seeds)) < len(seeds) or odd:
        what = f"criterion {odd[0]!r}" if odd else f"replicates {seeds}"
        raise ValueError(f"runs: {what}; an ablation over a multirun may differ in `replicate` alone")


def better_sides(rows: Sequence[Label], truth: Sequence[Label]) -> list[float]:
    """1 for each row whose reply a is better by a label of the same prompt and replies, -1 for b, 0 if unknown."""
    sides: dict[tuple[str, str, str], float] = {}
    for label in truth:
        sign = float((label.p_a > 0.5) - (label.p_a < 0.5))
        sides[label.prompt.id, label.a, label.b] = sign
        sides[label.prompt.id, label.b, label.a] = -sign
    return [sides.get((row.prompt.id, row.a, row.b), 0.0) for row in rows]


def _criteria(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    found = [name for name in CRITERIA if all(name in one["labels"] for one in runs)]
    if not found:
        raise ValueError(f"runs: no labels of {' or '.join(CRITERIA)} in every run; give one")
    return found


def _pairs(
    runs: Sequence[Mapping[str, Any]], criterion: str, names: Sequence[str]
) -> tuple[list[Label], list[Any], Floats, Floats | None]:
    """The labels of all runs, their replicates, log-odds (pairs, principles), and better sides if there is truth."""
    import numpy as np

    rows, replicates, sides = [], [], []
    truths = [one["truths"].get(criterion) for one in runs]
    for one, truth in zip(runs, truths, strict=True):
        found = read_rows(Path(one["labels"][criterion]), Label)
        rows += found
        replicates += [one["replicate"]] * len(found)
        sides += better_sides(found, read_rows(Path(truth), Label)) if truth else []
    if not rows:
        raise ValueError(f"labels.{criterion}: has no rows; give it comparisons")
    logits = np.array([log_odds_by_principle(row, names) for row in rows])
    return rows, replicates, logits, np.array(sides) if all(truths) else None


def estimate(_: Mapping[str, Any]) -> Estimate:
    """No model is asked."""
    return Estimate(None)
