"""What a reward model makes of held-out pairs: by how much it puts one reply before the other, pair by pair."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate, scored, taken
from cai_lightning.text.artifacts import LabelRows, RewardModel, Table
from cai_lightning.text.records import Label, read_rows

FILE = "pair_rewards.json"


def run(
    out: Path,
    *,
    reward_model: RewardModel,
    tests: dict[str, LabelRows],
    batch_size: int,
    dtype: str,
    precision: str,
) -> Table:
    """`pair_rewards.json`: for each named test set the reward of a less that of b, in the order of its labels.

    Rewards are log-odds in nats: the sigmoid of a margin is the model's P(a is better) (Bradley-Terry). `dtype` is the
    number format of the weights.
    """
    from cai_lightning.stages.reward_accuracy import rewards_of

    labels = {name: read_rows(path, Label) for name, path in tests.items()}
    found = rewards_of(Path(reward_model), labels, batch_size, dtype, precision)
    table = {name: [a - b for a, b in zip(rewards[::2], rewards[1::2], strict=True)] for name, rewards in found.items()}
    (out / FILE).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Two scored texts a test pair."""
    rows, tokens = taken(recipe["tests"], dict.fromkeys(recipe["tests"]))
    length = max(given.length for given in recipe["tests"].values()) / 2
    memory = scored(recipe, recipe["reward_model"], rows=2 * rows, length=length)
    return Estimate(None, 2 * rows, tokens, memory=memory)
