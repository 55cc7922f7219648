"""How much several reward models differ on the same held-out pairs, where only one thing about them differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate, scored, taken
from cai_lightning.text.artifacts import AssessmentRows, LabelRows, RewardModel
from cai_lightning.text.records import Assessment, Label, read_rows, write_rows


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
    from cai_lightning.stages.reward_accuracy import rewards_of
    from cai_lightning.stages.session import progress

    if len(reward_models) < 2:
        raise ValueError(f"reward_models: {len(reward_models)} given, but two or more are wanted")
    labels = {name: [row for row in read_rows(path, Label) if row.p_a != 0.5] for name, path in tests.items()}
    margins: dict[str, list[list[float]]] = {name: [[] for _ in rows] for name, rows in labels.items()}
    with progress(len(reward_models) * sum(map(len, labels.values())), "pairs") as advance:
        for path in reward_models.values():
            for name, scores in rewards_of(path, labels, batch_size, dtype, precision).items():
                for found, row, a, b in zip(margins[name], labels[name], scores[::2], scores[1::2], strict=True):
                    found.append(a - b if row.p_a > 0.5 else b - a)
                advance(len(labels[name]))
    write_rows(out, [row for name, rows in labels.items() for row in _assessed(player, name, rows, margins[name])])
    return out


def _assessed(
    player: str, test: str, rows: Sequence[Label], margins: Sequence[Sequence[float]]
) -> Iterator[Assessment]:
    for row, found in zip(rows, margins, strict=True):
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
    """Two scored texts a label and reward model."""
    rows, tokens = taken(recipe["tests"], dict.fromkeys(recipe["tests"]))
    judges = recipe["reward_models"].values()
    length = max(given.length for given in recipe["tests"].values()) / 2
    memory = max((scored(recipe, judge, rows=2 * rows, length=length) for judge in judges), default=0)
    return Estimate(rows, 2 * rows * len(judges), tokens * len(judges), memory=memory)
