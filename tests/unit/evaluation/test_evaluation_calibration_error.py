"""The interval of a calibration error, and its value by chance, against closed forms and simulated labels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cai_lightning.evaluation.calibration import bin_members, calibrate
from cai_lightning.evaluation.calibration_error import NAMES, calibration_error

Array = np.ndarray


def measured(p: Array, right: Array, clusters: Array, *, bins: int = 10, seed: int = 0, resamples: int = 300):  # type: ignore[no-untyped-def]
    columns = [("red_team", str(one)) for one in clusters]
    members = bin_members(p, bins=bins)
    return calibration_error(p, right, members, columns, ["0"] * len(p), resamples=resamples, seed=seed)


def error(p: Array, right: Array, bins: int = 10) -> float:
    known, nothing = [int(one) for one in right], [None] * len(p)
    return float(calibrate(p, known, nothing, nothing, bins=bins)["ece"])


def test_of_one_bin_far_from_the_truth_it_is_the_interval_of_a_mean() -> None:
    """400 labels sure by .9, of which 240 are right: .3 with the standard error of a share, √(.6 · .4 / 400)."""
    right = np.repeat([1.0, 0.0], [240, 160])
    found = measured(np.full(400, 0.9), right, np.arange(400), bins=1, resamples=4000)
    half = 1.96 * math.sqrt(0.6 * 0.4 / 400)
    wide = half * 2.2414 / 1.96  # chance is two-sided, and only its largest 2.5 % are left out below
    assert [found["ece_low"], found["ece_high"]] == pytest.approx([0.3 - wide, 0.3 + half], abs=0.003)
    assert found["ece_by_chance"] == pytest.approx(math.sqrt(0.6 * 0.4 / 400) * math.sqrt(2 / math.pi), rel=0.05)


def test_by_chance_is_what_labels_drawn_from_their_own_probabilities_show() -> None:
    generator = np.random.default_rng(0)
    p = 1 / (1 + np.exp(-generator.normal(0, 1.5, 600)))
    drawn = [error(p, generator.random(600) < p) for _ in range(400)]
    means = [measured(p, (generator.random(600) < p).astype(float), np.arange(600), seed=k) for k in range(10)]
    assert np.mean([one["ece_by_chance"] for one in means]) == pytest.approx(np.mean(drawn), rel=0.06)
    highs = [one["ece_by_chance_high"] for one in means]
    assert np.mean(highs) == pytest.approx(np.quantile(drawn, 0.975), rel=0.08)


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.8, 0.0), (1.0, 0.5)], ids=["calibrated", "sure", "biased"])
def test_of_200_worlds_the_interval_holds_the_error_of_the_law(slope: float, shift: float) -> None:
    """Probabilities whose true log-odds are slope times theirs and a shift; two labels of a prompt agree more often."""
    generator, hits, above = np.random.default_rng(3), 0, 0
    clusters = np.arange(400) // 2
    for number in range(200):
        odds = generator.normal(0, 1.5, 400)
        p, true = 1 / (1 + np.exp(-odds)), 1 / (1 + np.exp(-(slope * odds + shift)))
        uniform = generator.random(400)
        uniform[1::2] = np.where(generator.random(200) < 0.3, uniform[::2], uniform[1::2])
        right = (uniform < true).astype(float)
        law = sum(abs(float((true - p)[rows].sum())) for rows in bin_members(p, bins=10)) / 400
        found = measured(p, right, clusters, seed=number)
        hits += found["ece_low"] - 1e-12 <= law <= found["ece_high"]
        above += error(p, right) > law
    assert hits / 200 >= 0.92
    assert above / 200 > (0.5 if shift else 0.9)  # the figure itself is too large in most worlds


def test_copies_within_a_cluster_tell_nothing_new() -> None:
    generator = np.random.default_rng(1)
    p = np.sort(generator.random(200))
    right = (generator.random(200) < p).astype(float)
    once = measured(p, right, np.arange(200) % 50)
    again = measured(p.repeat(4), right.repeat(4), (np.arange(200) % 50).repeat(4))
    assert list(once.values()) == pytest.approx(list(again.values()), abs=1e-12)
    apart = measured(p.repeat(4), right.repeat(4), np.arange(800))
    assert apart["ece_by_chance"] < 0.6 * once["ece_by_chance"]  # as if they were labels of their own


def test_few_clusters_and_labels_that_all_agree_have_no_interval() -> None:
    assert measured(np.full(20, 0.75), np.ones(20), np.arange(20), bins=1) == dict.fromkeys(NAMES)
    assert measured(np.linspace(0.1, 0.9, 9), np.ones(9), np.arange(9)) == dict.fromkeys(NAMES)
    assert measured(np.array([]), np.array([]), np.array([])) == dict.fromkeys(NAMES)
