"""How much several reward models differ on the same held-out pairs, where only one thing about them differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate, taken
from cai_lightning.stages.margins import estimate as scored_pairs
from cai_lightning.stages.margins import margin_of, rewards
from cai_lightning.text.artifacts import AssessmentRows, LabelRows, RewardModel
from cai_lightning.text.records import Assessment, Label, write_rows


def run(
    out: Path,
    *,
    player: str,
    reward_models: dict[str, RewardModel],
    tests: dict[str, LabelRows],
    batch_size: int,
    dtype: str,
    precision: str,
) -> AssessmentRows:
    """Assessment rows: `margin`, `spread`, `split` and `correct` of `player` on every test pair; `kind` is the test.

    `margin` is the mean over the models of the better reply's score less the other's and `spread` its standard
    deviation among them, divided by n - 1, both in nats; `split` the share of pairs of models that order the two
    replies differently, `correct` the share of models that are right, an equal score one half of either. Labels with
    p_a of 0.5 are left out. Raises ValueError with fewer than two models.
    """
    if len(reward_models) < 2:
        raise ValueError(f"reward_models: {len(reward_models)} given, but two or more are wanted")
    labels: dict[str, list[Label]] = {}
    margins: dict[str, list[list[float]]] = {}
    found = rewards(reward_models, tests, batch_size=batch_size, dtype=dtype, precision=precision)
    for _, test, rows, scores in found:
        labels[test] = rows
        one = [margin_of(row, a, b) for row, a, b in zip(rows, scores[::2], scores[1::2], strict=True)]
        margins.setdefault(test, []).append(one)
    write_rows(out, [row for test, rows in labels.items() for row in _assessed(player, test, rows, margins[test])])
    return out


def _assessed(
    player: str, test: str, rows: Sequence[Label], margins: Sequence[Sequence[float]]
) -> Iterator[Assessment]:
    """`margins` are those of each model, in the order of the rows."""
    for row, *found in zip(rows, *margins, strict=True):
        yield Assessment(
            prompt=row.id,
            cluster=row.prompt.cluster,
            kind=test,
            player=player,
            sequences=None,
            metrics=dict(differences(found)),
        )


def differences(margins: Sequence[float]) -> Iterator[tuple[str, float]]:
    """`margin`, `spread`, `split` and `correct` of one pair's margins under two or more reward models: see `run`."""
    from itertools import combinations
    from statistics import fmean, stdev

    from cai_lightning.constitution.feedback import sign

    sides = [sign(margin) for margin in margins]
    yield "margin", fmean(margins)
    yield "spread", stdev(margins)
    yield "split", fmean(abs(a - b) / 2 for a, b in combinations(sides, 2))
    yield "correct", fmean((side + 1) / 2 for side in sides)


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Two scored texts a label and reward model; a row a label."""
    return scored_pairs(recipe)._replace(rows=taken(recipe["tests"], dict.fromkeys(recipe["tests"]))[0])
