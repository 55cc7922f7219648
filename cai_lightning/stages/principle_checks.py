"""Whether principles prefer the reply with less of the harm that they name, and only of that, as rows for contrasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cai_lightning.constitution.by_principle import log_odds_by_principle
from cai_lightning.constitution.feedback import sigmoid
from cai_lightning.constitution.principles import Constitution
from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import AssessmentRows, LabelRows
from cai_lightning.text.records import Assessment, Label, read_rows, write_rows

Harm = Callable[[str], Mapping[str, int]]
Covers = Callable[[str], frozenset[str]]


def run(
    out: Path, *, labels: LabelRows, constitution: Constitution, harm: Harm, covers: Covers, general: int
) -> AssessmentRows:
    """Assessment rows of `naming`, `silent` and `general`: `less_harm`, the mean P(the reply with less harm), 0 to 1.

    Of labels under every principle those count whose replies differ in one category of harm alone. Principles that name
    that category are `naming`, those that name others `silent`, those that name `general` categories or more `general`.
    Raises ValueError on labels that were not made under each principle, and where no pair differs so.
    """
    named = {one.id: covers(one.comparison or "") for one in constitution.comparing}
    rows = []
    for label in read_rows(labels, Label):
        if found := _differing(label, harm):
            rows += list(_assessed(label, *found, named, general))
    if not rows:
        raise ValueError(f"labels: in no pair of {labels} do the replies differ in one category of harm alone")
    write_rows(out, rows)
    return out


def _differing(label: Label, harm: Harm) -> tuple[str, float] | None:
    """The one category in which the replies differ, and 1 where a has less of it, -1 where b; None otherwise."""
    a, b = harm(label.a), harm(label.b)
    apart = [category for category in {*a, *b} if a.get(category, 0) != b.get(category, 0)]
    if len(apart) != 1:
        return None
    return apart[0], 1.0 if a.get(apart[0], 0) < b.get(apart[0], 0) else -1.0


def _assessed(
    label: Label, category: str, sign: float, named: Mapping[str, frozenset[str]], general: int
) -> Iterator[Assessment]:
    groups: dict[str, list[float]] = {}
    for id, logit in zip(named, log_odds_by_principle(label, list(named)), strict=True):
        wide = len(named[id]) >= general
        group = "general" if wide else "naming" if category in named[id] else "silent"
        groups.setdefault(group, []).append(sigmoid(sign * logit))
    for group, chances in groups.items():
        yield Assessment(
            prompt=label.id,
            cluster=label.prompt.cluster,
            kind=label.prompt.kind,
            player=group,
            sequences=None,
            metrics={"less_harm": sum(chances) / len(chances)},
        )


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """At most three rows a label; no model is asked."""
    return Estimate(3 * recipe["labels"].rows)
