"""Which principle does what to the reward model: one trained without each principle beside one trained with all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai_lightning.constitution.by_principle import JOIN
from cai_lightning.constitution.principles import Constitution, Principle
from cai_lightning.stages.attribution import CRITERIA, FILE, Covers, tabled
from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import LabelRows, Table
from cai_lightning.text.records import Label, read_rows

if TYPE_CHECKING:
    from cai_lightning.evaluation.attribution import Views
    from cai_lightning.evaluation.harm_categories import Harm
    from cai_lightning.evaluation.intervals import Floats

Margins = dict[Any, dict[str | None, dict[str, list[float]]]]
"""Replicate -> principle left out, null for none -> criterion -> margins of the test pairs."""


def run(
    out: Path,
    *,
    runs: list[dict[str, Any]],
    tests: dict[str, LabelRows],
    constitution: Constitution,
    truth: str,
    harm: Harm | None,
    covers: Covers | None,
    flips: int,
    resamples: int,
    seed: int,
) -> Table:
    """`attribution.json`: leave-one-out effects on the reward model's probability for the better of two test replies.

    Each run has the AI `labels` that its reward model was trained on, which say what principle was left out, and
    the `pair_rewards` of that model on `tests`. Principles that every replicate was trained without are in it; with the
    whole alone, or without it, there is none. `truth` says in words what the test labels are. Raises ValueError on
    labels of another constitution, and on two runs that left out the same.
    """
    margins = _margins(runs, [one.id for one in constitution.comparing])
    principles = [one for one in constitution.comparing if all(one.id in found for found in margins.values())]
    criteria = [name for name in CRITERIA if name in tests]
    if not all(None in found for found in margins.values()):
        principles = []
    facts: dict[str, Any] = {
        "constitution": constitution.name,
        "through": "reward_model",
        "truth_is": dict.fromkeys(criteria, truth),
        "replicates": list(margins),
    }
    if principles:
        views = {name: _views(read_rows(tests[name], Label), margins, name, principles) for name in criteria}
        table = tabled(facts, principles, views, harm=harm, covers=covers, flips=flips, resamples=resamples, seed=seed)
    else:
        table = {**facts, "pairs": 0, "whole": {}, "principles": [], "swap": {}}
        table |= dict.fromkeys(("redundancy", "categories", "truth"))
    (out / FILE).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return out


def left_out(labels: Path, names: Sequence[str]) -> str | None:
    """The id of the principle that labels were made without; null where all were asked."""
    asked = {name for row in read_rows(labels, Label)[:1] for name in (row.principle or "").split(JOIN)}
    missing = [name for name in names if name not in asked]
    if len(missing) > 1 or asked - set(names):
        raise ValueError(f"{labels}: made under {', '.join(sorted(asked))}; one of {', '.join(names)} may be missing")
    return missing[0] if missing else None


def _margins(runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Margins:
    found: Margins = {}
    for one in runs:
        without = left_out(Path(one["labels"]), names)
        of_seed = found.setdefault(one["replicate"], {})
        if without in of_seed:
            raise ValueError(f"runs: two of replicate {one['replicate']} without {without!r}; give each once")
        of_seed[without] = json.loads((Path(one["pair_rewards"]) / "pair_rewards.json").read_text(encoding="utf-8"))
    return found


def _views(rows: Sequence[Label], margins: Margins, criterion: str, principles: Sequence[Principle]) -> Views:
    """The views of all replicates on the same test pairs, one after the other."""
    import numpy as np

    from cai_lightning.evaluation.attribution import Views
    from cai_lightning.evaluation.pooling import sigmoid

    def chances(without: str | None) -> Floats:
        return sigmoid(np.concatenate([np.array(found[without][criterion]) for found in margins.values()]))

    seeds = [seed for seed in margins for _ in rows]
    every = [row for _ in margins for row in rows]
    better = np.array([float(np.sign(row.p_a - 0.5)) for row in every])
    each = np.stack([chances(one.id) for one in principles], axis=1)
    return Views(every, seeds, better, chances(None), each, alone=None, swapped=None, logits=None)


def estimate(_: Mapping[str, Any]) -> Estimate:
    """No model is asked."""
    return Estimate(None)
