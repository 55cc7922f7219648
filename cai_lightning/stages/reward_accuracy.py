"""How often a reward model puts the better of two held-out replies first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate, scored, taken
from cai_lightning.text.artifacts import LabelRows, Table
from cai_lightning.text.records import Label, read_rows


def run(
    out: Path, *, runs: list[dict[str, Any]], tests: dict[str, LabelRows], batch_size: int, precision: str
) -> Table:
    """`reward_model.json`: for each named test set `accuracy_<name>` with a 95 % interval by prompt cluster, and n.

    Labels with p_a of 0.5 are left out; equal rewards count one half. Several runs are several replicates: their
    hits on a pair are averaged first.
    """
    import numpy as np

    from cai_lightning.evaluation.intervals import clustered_share

    hits: dict[str, list[list[float]]] = {}
    clusters: dict[str, list[str]] = {}
    for one in runs:
        rewards = _rewards(Path(one["reward_model"]), tests, batch_size, precision)
        for name, pairs in rewards.items():
            hits.setdefault(name, []).append([_hit(label, a, b) for label, a, b in pairs])
            clusters[name] = [label.prompt.cluster for label, _, _ in pairs]
    table: dict[str, Any] = {}
    for name, by_run in hits.items():
        value, interval, n = clustered_share(np.mean(by_run, axis=0), clusters[name])
        table[f"accuracy_{name}"] = {"value": value, "low": interval.low, "high": interval.high, "n": n}
    (out / "reward_model.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return out


def _rewards(
    path: Path, tests: dict[str, Path], batch_size: int, precision: str
) -> dict[str, list[tuple[Label, float, float]]]:
    import torch

    from cai_lightning.models.reward import load_reward
    from cai_lightning.stages.session import autocast, device, prepare

    prepare()
    model, tokenizer = load_reward(path, dtype="float32")
    model.to(device())
    scored = {}
    for name, folder in tests.items():
        rows = [row for row in read_rows(folder, Label) if row.p_a != 0.5]
        dialogues = [row.prompt.dialogue for row in rows for _ in "ab"]
        replies = [reply for row in rows for reply in (row.a, row.b)]
        with torch.inference_mode(), autocast(precision):
            values = model.score_replies(tokenizer, dialogues, replies, batch_size=batch_size)
        scored[name] = list(zip(rows, values[::2], values[1::2], strict=True))
    return scored


def _hit(label: Label, a: float, b: float) -> float:
    return 0.5 if a == b else float((a > b) == (label.p_a > 0.5))


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Two scored texts a test pair and run."""
    rows, tokens = taken(recipe["tests"], dict.fromkeys(recipe["tests"]))
    judge, length = recipe["runs"][0]["reward_model"], max(given.length for given in recipe["tests"].values()) / 2
    memory = scored({**recipe, "dtype": "float32"}, judge, rows=2 * rows, length=length)
    return Estimate(None, 2 * rows * len(recipe["runs"]), tokens * len(recipe["runs"]), memory=memory)
