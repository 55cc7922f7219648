"""A label that was asked under several principles, taken apart: the log-odds under each."""

from __future__ import annotations

from collections.abc import Sequence

from cai_lightning.constitution.feedback import mean_log_odds, mean_probability
from cai_lightning.text.records import Label

JOIN = "+"


def log_odds_by_principle(row: Label, principles: Sequence[str]) -> list[float]:
    """The log-odds in nats that a is better under each of `principles`, over its orders and thoughts as `label` has it.

    Orders are averaged in log-odds, thoughts in probability. Raises ValueError where the label was not made under
    exactly these principles, or does not keep what was answered under each.
    """
    asked = (row.principle or "").split(JOIN)
    if sorted(asked) != sorted(principles):
        other = next((name for name in principles if name not in asked), None)
        problem = f"not asked under {other!r}" if other else f"asked under {row.principle!r}"
        raise ValueError(f"label {row.id}: {problem}; label with pick=every under the same constitution")
    if not row.logits or len(row.logits) % len(asked):
        raise ValueError(f"label {row.id}: {len(row.logits)} log-odds for {len(asked)} principles; make it anew")
    each = len(row.logits) // len(asked)
    pool = mean_probability if row.thoughts else mean_log_odds
    found = {name: pool(row.logits[place * each :][:each]) for place, name in enumerate(asked)}
    return [found[name] for name in principles]
