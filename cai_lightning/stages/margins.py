"""How a reward model ranks each of many labelled pairs, as rows: for contrasts between reward models."""

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
    reward_models: dict[str, RewardModel],
    tests: dict[str, LabelRows],
    batch_size: int,
    dtype: str,
    precision: str,
) -> AssessmentRows:
    """Assessment rows: of every reward model (the player) and label, `correct`, `margin` and `nll`; `kind` is the test.

    `margin` is the score of the better reply less that of the other, in nats; `correct` whether it is above 0 (equal
    scores one half); `nll` the negative log-likelihood of the label under the Bradley-Terry model. Labels with p_a of
    0.5 are left out.
    """
    found = rewards(reward_models, tests, batch_size=batch_size, dtype=dtype, precision=precision)
    write_rows(out, [row for player, test, rows, scores in found for row in _assessed(player, test, rows, scores)])
    return out


def rewards(
    reward_models: Mapping[str, Path], tests: Mapping[str, Path], *, batch_size: int, dtype: str, precision: str
) -> Iterator[tuple[str, str, list[Label], list[float]]]:
    """Each reward model and test: their names, the labels without those of p_a 0.5, and the rewards of a and b of each.

    Rewards stand one after the other, in nats.
    """
    from cai_lightning.stages.reward_accuracy import rewards_of
    from cai_lightning.stages.session import progress

    labels = {name: [row for row in read_rows(path, Label) if row.p_a != 0.5] for name, path in tests.items()}
    with progress(len(reward_models) * sum(map(len, labels.values())), "pairs") as advance:
        for player, path in reward_models.items():
            for name, scores in rewards_of(path, labels, batch_size, dtype, precision).items():
                yield player, name, labels[name], scores
                advance(len(labels[name]))


def margin_of(row: Label, a: float, b: float) -> float:
    """The reward of a label's better reply less that of the other, of the rewards of a and b."""
    return (a - b) * (1 if row.p_a > 0.5 else -1)


def _assessed(player: str, test: str, rows: Sequence[Label], scores: Sequence[float]) -> Iterator[Assessment]:
    import numpy as np

    for row, a, b in zip(rows, scores[::2], scores[1::2], strict=True):
        margin = margin_of(row, a, b)
        metrics: dict[str, float | None] = {
            "correct": 0.5 + 0.5 * float(np.sign(margin)),
            "margin": margin,
            "nll": float(row.p_a * np.logaddexp(0, b - a) + (1 - row.p_a) * np.logaddexp(0, a - b)),
        }
        yield Assessment(
            prompt=row.id, cluster=row.prompt.cluster, kind=test, player=player, sequences=None, metrics=metrics
        )


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Two scored texts a label and reward model."""
    rows, tokens = taken(recipe["tests"], dict.fromkeys(recipe["tests"]))
    judges = recipe["reward_models"].values()
    length = max(given.length for given in recipe["tests"].values()) / 2
    memory = max((scored(recipe, judge, rows=2 * rows, length=length) for judge in judges), default=0)
    return Estimate(rows * len(judges), 2 * rows * len(judges), tokens * len(judges), memory=memory)
