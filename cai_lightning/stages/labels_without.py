"""The labels of a constitution without one of its principles, from labels under each: no model is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai_lightning.constitution.by_principle import JOIN, log_odds_by_principle
from cai_lightning.constitution.feedback import clamped, joined_hash
from cai_lightning.constitution.principles import Constitution
from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import LabelRows
from cai_lightning.text.records import Label, read_rows, write_rows

if TYPE_CHECKING:
    from cai_lightning.evaluation.pooling import Pool


def run(
    out: Path,
    *,
    labels: LabelRows,
    constitution: Constitution,
    without: str | None,
    pool: Pool,
    clamp: tuple[float, float] | None,
    weight: float,
) -> LabelRows:
    """Label rows whose p_a is `pool` of the principles but `without` (its id; null keeps all), then clamped.

    `logits` are the log-odds under each principle that is left, in the constitution's order. Raises ValueError where no
    principle that compares has this id, none would be left, or the labels were not made under each of them.
    """
    import numpy as np

    principles = constitution.comparing
    names = [principle.id for principle in principles]
    kept = [principle for principle in principles if principle.id != without]
    if without is not None and without not in names:
        raise ValueError(f"without: no principle {without!r} that compares; there are {', '.join(names)}")
    if not kept:
        raise ValueError(f"without: {without!r} is the only principle that compares; to leave one out takes two")
    rows = read_rows(labels, Label)
    keep = [place for place, name in enumerate(names) if name != without]
    logits = np.array([log_odds_by_principle(row, names) for row in rows]).reshape(len(rows), -1)[:, keep]
    chances = pool(logits, np.full((1, len(keep)), 1 / len(keep)))[:, 0]
    ids, hashes = JOIN.join(one.id for one in kept), joined_hash([one.hash for one in kept])
    write_rows(
        out,
        (
            replace(
                row,
                p_a=clamped(float(chance), clamp),
                logit_ab=None,
                logit_ba=None,
                principle=ids,
                principle_hash=hashes,
                weight=weight,
                logits=tuple(map(float, under)),
                thoughts=(),
            )
            for row, chance, under in zip(rows, chances, logits, strict=True)
        ),
    )
    return out


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Raises ValueError where the config names a principle to leave out that its constitution does not have."""
    principles = recipe["constitution"].get("principles") or []
    names = [str(one.get("id")) for one in principles if one.get("comparison")]
    if names and recipe["without"] is not None and recipe["without"] not in names:
        raise ValueError(f"without: no principle {recipe['without']!r} that compares; there are {', '.join(names)}")


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """A label a label; no model is asked."""
    given = recipe["labels"]
    return Estimate(given.rows, length=given.length, prompts=given.prompts)
