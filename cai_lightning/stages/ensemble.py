"""One label from several feedback models: the members' labels of the same comparisons, combined."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cai_lightning.constitution import feedback
from cai_lightning.constitution.feedback import clamped, joined_hash, sigmoid, sign
from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import LabelRows
from cai_lightning.text.records import Label, read_rows, write_rows

Combine = Callable[[Sequence[float], Sequence[float]], float]
"""The members' log-odds in nats, and their weights -> P(a is better)."""


def mean_log_odds(logits: Sequence[float], weights: Sequence[float]) -> float:
    """The sigmoid of the weighted mean log-odds: a member that is sure counts for more."""
    return sigmoid(_weighted(logits, weights))


def vote(logits: Sequence[float], weights: Sequence[float]) -> float:
    """The weighted share of members that prefer a; one that is undecided gives half its weight."""
    return _weighted([(sign(logit) + 1) / 2 for logit in logits], weights)


def run(
    out: Path,
    *,
    members: dict[str, LabelRows],
    weights: dict[str, float],
    combine: Combine,
    clamp: tuple[float, float] | None,
    weight: float,
) -> LabelRows:
    """Label rows: `combine` of the log-odds behind the members' labels, before their own clamps; then `clamp`.

    `logits` are the members' log-odds, in their order, and `model` joins their store keys. `counts.json` says how often
    two members prefer the same reply, and each member and the ensemble. Raises ValueError where the members' rows are
    not of the same comparisons, or come without log-odds.
    """
    from cai_lightning.stages.reading import write_counts
    from cai_lightning.stages.sampling import key_of

    if set(weights) != set(members) or not members or min(weights.values()) <= 0:
        raise ValueError(f"weights: {weights} given, but one above 0 is wanted for each of {', '.join(members)}")
    labels = {name: read_rows(path, Label) for name, path in members.items()}
    _check(labels)
    model = "+".join(key_of(Path(path)) for path in members.values())
    shares = [weights[name] for name in members]
    rows = [
        _label(found, combine, shares, clamp=clamp, weight=weight, model=model)
        for found in zip(*labels.values(), strict=True)
    ]
    write_rows(out, rows)
    write_counts(out, {"rows": len(rows), "members": _members(labels, rows, weights), "agreement": _agreement(labels)})
    return out


def log_odds(row: Label) -> float:
    """The log-odds in nats of a behind a model's label, before any clamp."""
    orders = [logit for logit in (row.logit_ab, row.logit_ba) if logit is not None]
    if not orders:
        raise ValueError(f"label {row.id}: has no log-odds; the members of an ensemble must be labels by models")
    return (feedback.mean_probability if row.thoughts else feedback.mean_log_odds)(orders)


def _label(
    found: Sequence[Label],
    combine: Combine,
    weights: Sequence[float],
    *,
    clamp: tuple[float, float] | None,
    weight: float,
    model: str,
) -> Label:
    first = found[0]
    logits = tuple(map(log_odds, found))
    principles = dict.fromkeys((row.principle or "", row.principle_hash or "") for row in found)
    masses = [row.letter_mass for row in found if row.letter_mass is not None]
    return Label(
        id=first.id,
        prompt=first.prompt,
        a=first.a,
        b=first.b,
        p_a=clamped(combine(logits, weights), clamp),
        logit_ab=_mean([row.logit_ab for row in found], weights),
        logit_ba=_mean([row.logit_ba for row in found], weights),
        principle="+".join(id for id, _ in principles),
        principle_hash=joined_hash([hash for _, hash in principles]),
        model=model,
        source=first.source,
        weight=weight,
        logits=logits,
        thoughts=tuple(thought for row in found for thought in row.thoughts),
        letter_mass=math.fsum(masses) / len(masses) if masses else None,
        ended=first.ended,
        cut=any(row.cut for row in found),
    )


def _mean(logits: Sequence[float | None], weights: Sequence[float]) -> float | None:
    """The weighted mean of the members' log-odds in one order, if all were asked in it."""
    known = [logit for logit in logits if logit is not None]
    if len(known) < len(logits):
        return None
    return _weighted(known, weights)


def _weighted(values: Sequence[float], weights: Sequence[float]) -> float:
    return math.fsum(w * x for w, x in zip(weights, values, strict=True)) / math.fsum(weights)


def _check(labels: Mapping[str, Sequence[Label]]) -> None:
    (first, rows), *others = labels.items()
    for name, found in others:
        if [(row.id, row.a, row.b) for row in found] != [(row.id, row.a, row.b) for row in rows]:
            raise ValueError(
                f"members.{name}: its rows are not those of {first}; members must label the same comparisons"
            )


def _same(one: Sequence[int], other: Sequence[int]) -> float | None:
    """The share of rows with the same preference."""
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one) if one else None


def _agreement(labels: Mapping[str, Sequence[Label]]) -> dict[str, float | None]:
    signs = {name: [sign(log_odds(row)) for row in rows] for name, rows in labels.items()}
    names = list(signs)
    return {f"{a}/{b}": _same(signs[a], signs[b]) for i, a in enumerate(names) for b in names[i + 1 :]}


def _members(
    labels: Mapping[str, Sequence[Label]], rows: Sequence[Label], weights: Mapping[str, float]
) -> dict[str, dict[str, float | None]]:
    decided = [sign(row.p_a - 0.5) for row in rows]
    total = math.fsum(weights.values())
    return {
        name: {"weight": weights[name] / total, "with_ensemble": _same([sign(log_odds(r)) for r in found], decided)}
        for name, found in labels.items()
    }


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """A label a comparison; no model is asked."""
    first = next(iter(recipe["members"].values()))
    return Estimate(first.rows, length=first.length, prompts=first.prompts)
