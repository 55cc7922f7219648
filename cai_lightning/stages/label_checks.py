"""Feedback labels against a truth about each comparison, as rows: for contrasts between ways of asking."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cai_lightning.constitution.principles import Constitution
from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import AssessmentRows, LabelRows
from cai_lightning.text.dialogue import Dialogue
from cai_lightning.text.records import Assessment, Label, read_rows, write_rows

Truth = Callable[[str, Dialogue, str, str], float | None]


def run(
    out: Path, *, labels: dict[str, LabelRows], constitution: Constitution, truth: Truth, general: str, floor: float
) -> AssessmentRows:
    """Assessment rows: of every label (the player is its folder's name) what a truth says of it, null on ties.

    `correct`: the likelier reply is the better one under the label's own principles, `right`: under the words `general`
    (a half where p_a is); `brier` in 0..1 under its own, and `nll` in nats, where p_a comes no nearer to 0 and 1 than
    `floor`, for a hard label that is wrong has none; `overconfidence`, how probable it calls the likelier reply less
    `correct`, in -0.5..1; `extremity` |p_a - 1/2| in 0..0.5. Where both orders were asked: `flipped`, whether they
    disagree, and `slot_bias`, the log-odds that A gains by its place, in nats.
    """
    wording = {principle.id: principle.comparison or "" for principle in constitution.principles}
    rows: list[Assessment] = []
    for player, folder in labels.items():
        for label in read_rows(folder, Label):
            own = " ".join(wording[id] for id in (label.principle or "").split("+"))
            rows.append(_assessed(player, label, dict(_metrics(label, own, general, truth, floor))))
    write_rows(out, rows)
    return out


def _metrics(label: Label, own: str, general: str, truth: Truth, floor: float) -> Iterator[tuple[str, float | None]]:
    better, generally = (truth(words, label.prompt.dialogue, label.a, label.b) for words in (own, general))
    side = 0.5 + 0.5 * ((label.p_a > 0.5) - (label.p_a < 0.5))
    yield "correct", None if better is None else 1 - abs(side - better)
    yield "right", None if generally is None else 1 - abs(side - generally)
    yield "brier", None if better is None else (label.p_a - better) ** 2
    yield "nll", None if better is None else -math.log(max(floor, 1 - abs(label.p_a - better)))
    yield "overconfidence", None if better is None else 0.5 + abs(label.p_a - 0.5) - (1 - abs(side - better))
    yield "extremity", abs(label.p_a - 0.5)
    if label.logit_ab is not None and label.logit_ba is not None:
        yield "flipped", float(label.logit_ab * label.logit_ba < 0)
        yield "slot_bias", (label.logit_ab - label.logit_ba) / 2


def _assessed(player: str, label: Label, metrics: dict[str, float | None]) -> Assessment:
    prompt = label.prompt
    return Assessment(
        prompt=label.id, cluster=prompt.cluster, kind=prompt.kind, player=player, sequences=None, metrics=metrics
    )


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """A row a label; no model is asked."""
    return Estimate(sum(given.rows for given in recipe["labels"].values()))
