"""What words and lengths alone say of held-out preferences: the floor under a reward model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import LabelRows, Table
from cai_lightning.text.records import Label, read_rows

if TYPE_CHECKING:
    from cai_lightning.evaluation.bag_of_words import Pair

HITS = "hits.json"


def run(
    out: Path,
    *,
    train: dict[str, LabelRows],
    tests: dict[str, LabelRows],
    token: str,
    longest: int,
    least: int,
    l2: list[float],
    folds: int,
    shown: int,
) -> Table:
    """`baseline.json`: `bag_of_words` and `shorter`, each with `accuracy_<test>` as the reward model's table has it.

    Accuracies have a 95 % interval by prompt cluster and n; equal preferences count one half, labels with p_a of 0.5
    are left out. `model` describes the fit: L2, features, and the word sequences that weigh most. `hits.json` has the
    hits behind the accuracies, by label id.
    """
    import numpy as np

    from cai_lightning.evaluation.bag_of_words import describe, fit_bag_of_words, hits, shorter_hits
    from cai_lightning.evaluation.intervals import clustered_share, estimate

    pairs = [pair for name in sorted(train) for pair in _pairs(read_rows(train[name], Label))]  # folds follow the order
    model = fit_bag_of_words(pairs, token=token, longest=longest, least=least, l2=l2, folds=folds)
    table: dict[str, Any] = {"bag_of_words": {}, "shorter": {}, "model": describe(model, shown=shown)}
    by_label: dict[str, dict[str, dict[str, float]]] = {"bag_of_words": {}, "shorter": {}}
    for name, folder in tests.items():
        labels = [row for row in read_rows(folder, Label) if row.p_a != 0.5]
        rows = _pairs(labels)
        for baseline, found in (("bag_of_words", hits(model.log_odds(rows), rows)), ("shorter", shorter_hits(rows))):
            value, interval, n = clustered_share(np.array(found), [pair.cluster for pair in rows])
            table[baseline][f"accuracy_{name}"] = estimate(value, interval, n)
            by_label[baseline][name] = dict(zip((row.id for row in labels), found, strict=True))
    (out / "baseline.json").write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / HITS).write_text(json.dumps(by_label) + "\n", encoding="utf-8")
    return out


def _pairs(rows: Iterable[Label]) -> list[Pair]:
    from cai_lightning.evaluation.bag_of_words import Pair

    return [Pair(row.a, row.b, row.p_a, row.weight, row.prompt.cluster) for row in rows]


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """A table; no model is asked."""
    del recipe
    return Estimate(None)
