from __future__ import annotations

import numpy as np
import pytest

from cai_lightning.evaluation.calibration import calibrate, reliability

NONE4 = [None] * 4


def test_figures_by_hand() -> None:
    result = calibrate(np.array([0.9, 0.6, 0.2, 0.3]), [1, 0, 0, 1], NONE4, NONE4, bins=2)
    assert result["n"] == 4
    assert result["accuracy"] == 0.5
    # squared errors .01, .36, .04, .49
    assert result["brier"] == pytest.approx(0.225)
    # bins {.2, .3} with share ½ and {.6, .9} with share ½: gaps .25 and .25
    assert result["ece"] == pytest.approx(0.25)
    assert [entry["n"] for entry in result["bins"]] == [2, 2]


def test_ties_in_truth_are_left_out_and_a_half_is_half_right() -> None:
    result = calibrate(np.array([0.9, 0.1, 0.5, 0.8]), [1, None, 1, None], NONE4, NONE4, bins=2)
    assert (result["n"], result["accuracy"]) == (2, 0.75)


def test_position_by_hand() -> None:
    # log-odds of a when a stands first and when it stands second: a stays ahead once, order decides once
    result = calibrate(np.array([0.7, 0.5, 0.6]), [1, 0, 1], [2.0, 1.0, 5.0], [1.0, -2.0, None], bins=10)
    assert result["position_bias"] == pytest.approx(((2 - 1) / 2 + (1 + 2) / 2) / 2)
    assert result["flip_rate"] == 0.5


def test_swapping_a_and_b_everywhere_changes_nothing() -> None:
    generator = np.random.default_rng(0)
    p, truth = generator.random(100), generator.integers(0, 2, 100)
    ab, ba = generator.normal(size=(2, 100))
    one = calibrate(p, truth.tolist(), ab.tolist(), ba.tolist(), bins=10)
    two = calibrate(1 - p, (1 - truth).tolist(), (-ba).tolist(), (-ab).tolist(), bins=10)
    for name in ("accuracy", "ece", "brier", "position_bias", "flip_rate"):
        assert one[name] == pytest.approx(two[name], abs=1e-12)


def test_calibrated_probabilities_have_a_small_error() -> None:
    generator = np.random.default_rng(0)
    p = generator.random(20_000)
    right = generator.random(20_000) < p
    result = calibrate(p, right.astype(int).tolist(), [None] * 20_000, [None] * 20_000, bins=10)
    assert result["ece"] < 0.015
    assert result["brier"] == pytest.approx(1 / 6, abs=0.005)  # E[p (1 − p)] of a uniform p
    assert all(entry["low"] <= entry["share"] <= entry["high"] for entry in result["bins"])


def test_no_known_truth_leaves_nulls() -> None:
    result = calibrate(np.array([0.5]), [None], [1.0], [1.0], bins=10)
    assert result["accuracy"] is result["ece"] is result["brier"] is None
    assert (result["n"], result["bins"], result["position_bias"]) == (0, [], 0.0)


def test_fewer_values_make_fewer_bins() -> None:
    assert len(reliability(np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.0, 1.0]), bins=10)) == 3
