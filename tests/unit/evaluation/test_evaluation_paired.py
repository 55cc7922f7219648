import math

import numpy as np
import pytest

from cai_lightning.evaluation.paired import difference

GIVEN = {"resamples": 4000, "seed": 0}


def test_the_difference_is_the_mean_over_clusters_of_their_means() -> None:
    # cluster x: (1 + 0) / 2 = .5, cluster y: -1
    found = difference(np.array([[1.0, 1, 0]]), np.array([0.0, 1, 1]), ["x", "x", "y"], **GIVEN)
    assert found == {"value": -0.25, "low": None, "high": None, "n": 2}


def test_with_one_replicate_the_interval_is_that_of_a_mean() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(0, 2, (2, 400)).astype(float)
    found = difference(ours[None], theirs, [str(i) for i in range(400)], **GIVEN)
    half = 1.96 * (ours - theirs).std(ddof=1) / math.sqrt(400)
    assert found["value"] == pytest.approx((ours - theirs).mean())
    assert found["high"] - found["value"] == pytest.approx(half, rel=0.06)  # 4000 draws
    assert found["value"] - found["low"] == pytest.approx(half, rel=0.06)


def test_pairing_takes_away_what_both_share() -> None:
    shared = np.random.default_rng(0).integers(0, 2, 200).astype(float)
    found = difference(shared[None], shared, [str(i) for i in range(200)], **GIVEN)
    assert (found["value"], found["low"], found["high"]) == (0, 0, 0)


def test_replicates_that_differ_widen_the_interval() -> None:
    clusters = [str(i) for i in range(20)]
    right, wrong = np.ones(20), np.zeros(20)
    alike = difference(np.array([right, right, right]), wrong, clusters, **GIVEN)
    apart = difference(np.array([right, right, wrong]), wrong, clusters, **GIVEN)
    assert (alike["low"], alike["high"]) == (1, 1)
    assert apart["value"] == pytest.approx(2 / 3) and apart["low"] < 0


def test_without_pairs_there_is_no_difference() -> None:
    with pytest.raises(ValueError, match="at least one pair"):
        difference(np.zeros((1, 0)), np.zeros(0), [], **GIVEN)
