"""Alarms on histories made by hand, each with one thing wrong."""

from __future__ import annotations

import json
import logging
import math
from types import SimpleNamespace

import pytest

from cai_lightning.learning.alarms import Alarms, Thresholds, alarms, change

LIMITS = Thresholds(ses=3.0, ratio=0.1, eos_rate=0.5, entropy_share=0.2, window=2)
WELL = {
    "objective/kl": 0.4,
    "objective/kl_se": 0.1,
    "eos_rate": 0.9,
    "policy/entropy_avg": 1.0,
    "objective/scores": 1.0,
    "objective/scores_se": 0.1,
    "heldout/scores": 1.0,
    "heldout/scores_se": 0.1,
}


def history(*changes):
    return [WELL | change for change in changes]


def test_a_healthy_run_is_silent():
    assert alarms(history({}, {}, {}, {}), 1e-6, LIMITS) == {}


@pytest.mark.parametrize(
    ("kind", "newest", "error"),
    [
        ("negative_kl", {"objective/kl": -0.31}, 0.0),
        ("first_ratio", {}, 0.11),
        ("eos_rate", {"eos_rate": 0.49}, 0.0),
        ("entropy", {"policy/entropy_avg": 0.19}, 0.0),
    ],
)
def test_one_thing_wrong_is_one_alarm(kind, newest, error):
    found = alarms(history({}, newest), error, LIMITS)
    assert list(found) == [kind]
    assert ":" in found[kind] or ";" in found[kind]  # what it means, and what to do


@pytest.mark.parametrize("newest", [{"objective/kl": -0.29}, {"eos_rate": 0.5}, {"policy/entropy_avg": 0.2}])
def test_noise_and_bounds_are_no_alarm(newest):
    assert alarms(history({}, newest), 0.1, LIMITS) == {}


def test_over_optimisation_is_more_reward_and_less_of_the_held_out_judges():
    """Two iterations against two: each mean moves by 1, whose standard error is 0.1: ten of them."""
    up, down = {"objective/scores": 2.0}, {"heldout/scores": 0.0}
    assert change(history({}, {}, up, up), "objective/scores", 2) == pytest.approx(10.0)
    assert list(alarms(history({}, {}, up | down, up | down), 0.0, LIMITS)) == ["over_optimised"]
    for row in (up, down, {"objective/scores": 0.0, "heldout/scores": 0.0}):
        assert alarms(history({}, {}, row, row), 0.0, LIMITS) == {}
    assert alarms(history({}, up | down, up | down), 0.0, LIMITS) == {}  # too few to tell


def test_without_noise_any_change_counts():
    still = {"objective/scores_se": 0.0}
    assert change(history(still, still, still, still), "objective/scores", 2) == 0.0
    moved = still | {"objective/scores": 0.5}
    assert change(history(still, still, moved, moved), "objective/scores", 2) == -math.inf


def test_a_run_without_a_held_out_judge_is_not_compared():
    rows = [{name: value for name, value in WELL.items() if "heldout" not in name} for _ in range(4)]
    assert alarms(rows, 0.0, LIMITS) == {}


def test_each_kind_is_said_once_and_written_every_time(tmp_path, caplog):
    rows = []
    watching = Alarms(rows, LIMITS, tmp_path / "alarms.jsonl")
    for number in range(3):
        rows.append(WELL | {"eos_rate": 0.1 * number})
        trainer = SimpleNamespace(current_epoch=number, is_global_zero=True)
        with caplog.at_level(logging.WARNING):
            watching.on_train_epoch_end(trainer, SimpleNamespace(first_ratio_error=0.5 if number == 2 else 0.0))
    written = [json.loads(line) for line in (tmp_path / "alarms.jsonl").read_text().splitlines()]
    assert [(row["iteration"], row["kind"]) for row in written] == [
        (0, "eos_rate"), (1, "eos_rate"), (2, "first_ratio"), (2, "eos_rate"),
    ]  # fmt: skip
    assert [record.message.split(":")[0] for record in caplog.records] == ["iteration 0", "iteration 2"]
    assert "only 0% of replies end by themselves" in caplog.text
