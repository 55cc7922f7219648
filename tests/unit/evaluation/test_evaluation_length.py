"""Win rates at equal length: by hand, by symmetry, and with judges that look at nothing but length."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from cai_lightning.evaluation.intervals import draws
from cai_lightning.evaluation.length import Matches, length_controlled, logit

Floats = np.ndarray[Any, np.dtype[np.float64]]


def controlled(scores: Any, longer: Any, clusters: Any = None, resamples: int = 400) -> dict[str, Any]:
    size = len(scores)
    clusters = np.arange(size) if clusters is None else np.array(clusters)
    matches = Matches(np.array(scores, float), np.array(longer, float), np.zeros(size, int), clusters)
    return length_controlled(matches, draws([""] * (int(clusters.max()) + 1), 1, resamples=resamples, seed=0))


def test_two_lengths_by_hand() -> None:
    """At +7 words 8 of 10 are won, at -7 half: log-odds 2 ln 2 and 0, so ln 2 between them, which is 2 of 3."""
    found = controlled([1] * 8 + [0] * 2 + [1, 0] * 5, [7] * 10 + [-7] * 10)
    assert found["raw"]["value"] == pytest.approx(0.65)
    assert found["controlled"]["value"] == pytest.approx(2 / 3)
    assert found["difference"]["value"] == pytest.approx(2 / 3 - 0.65)
    assert found["slope"]["value"] == pytest.approx(math.log(2) / math.tanh(1))
    assert (found["words"], found["sd"], found["beyond"], found["why"]) == (0, 7, False, None)
    assert found["controlled"]["low"] < 2 / 3 < found["controlled"]["high"]


def test_a_tie_is_half_a_win_and_half_a_loss() -> None:
    longer = [3, -1, 4, -2, 0, 5] * 4
    ties = controlled([1, 0.5, 0.5, 0, 1, 0] * 4, longer)["controlled"]["value"]
    twice = controlled([1, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0], [3, -1, 4, -2, 0, 5] * 2)
    assert ties == pytest.approx(twice["controlled"]["value"])


def test_swapping_the_sides_turns_the_win_rate_round() -> None:
    rng = np.random.default_rng(0)
    scores, longer = rng.integers(0, 3, 60) / 2, rng.normal(2, 5, 60).round()
    one, two = controlled(scores, longer), controlled(1 - scores, -longer)
    assert one["controlled"]["value"] == pytest.approx(1 - two["controlled"]["value"])
    assert one["slope"]["value"] == pytest.approx(two["slope"]["value"])


def test_a_judge_of_length_alone_is_found_out() -> None:
    """A player that writes longer wins seven of ten; at equal length it wins half."""
    rng = np.random.default_rng(1)
    longer = rng.normal(10, 10, 2000)
    wins = rng.random(2000) < 1 / (1 + np.exp(-longer / 8))
    found = controlled(wins.astype(float), longer)
    assert found["raw"]["low"] > 0.65
    assert found["controlled"]["low"] < 0.5 < found["controlled"]["high"]
    assert found["difference"]["high"] < -0.1 and found["slope"]["low"] > 1


def test_a_judge_that_ignores_length_is_left_alone() -> None:
    rng = np.random.default_rng(2)
    found = controlled((rng.random(2000) < 0.7).astype(float), rng.normal(5, 5, 2000))
    assert found["difference"]["low"] < 0 < found["difference"]["high"]
    assert found["slope"]["low"] < 0 < found["slope"]["high"]


@pytest.mark.parametrize(
    ("scores", "longer", "why"),
    [
        ([1, 1, 1], [1, 2, 3], "all wins"),
        ([0, 0, 0], [1, 2, 3], "all losses"),
        ([0, 0, 1, 1], [1, 2, 3, 4], "length alone tells wins from losses"),
        ([1, 1, 0, 0], [1, 2, 2, 4], "length alone tells wins from losses"),  # but for a tie in length
        ([1, 0, 1, 0], [5, 5, 5, 5], "all replies differ by the same number of words"),
    ],
)
def test_where_no_finite_slope_exists_there_is_a_reason_in_place_of_a_figure(
    scores: list[float], longer: list[float], why: str
) -> None:
    found = controlled(scores, longer)
    assert found["why"] == why and found["controlled"]["value"] is found["slope"]["value"] is None
    assert found["raw"]["value"] == np.mean(scores)
    assert found["beyond"] == (min(longer) > 0)


def test_replies_of_equal_length_need_no_control() -> None:
    found = controlled([1, 0, 1, 1], [0, 0, 0, 0])
    assert found["controlled"] == found["raw"] and found["why"] is None


def test_few_clusters_have_a_value_and_no_interval() -> None:
    found = controlled([1, 0, 1, 0, 0, 1], [1, 2, 3, 4, 5, 6])
    assert found["controlled"]["value"] is not None and found["controlled"]["low"] is None and found["beyond"]


def test_columns_that_depend_on_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="no finite maximum"):
        logit(np.ones((4, 2)), np.array([1.0, 0, 1, 0]))
    with pytest.raises(ValueError, match="no finite maximum"):
        logit(np.array([[1.0, -1], [1, -2], [1, 1], [1, 2]]), np.array([0.0, 0, 1, 1]))


@pytest.mark.parametrize("slope", [0.0, 2.0])
def test_200_intervals_cover_the_win_rate_at_equal_length(slope: float) -> None:
    """Three verdicts in each of 60 clusters, alike within one, each won with probability σ(α + β tanh(Δ / sd))."""
    rng, alpha, hits = np.random.default_rng(3), 0.6, 0
    to_normal = np.vectorize(NormalDist().inv_cdf)
    for number in range(200):
        longer = rng.normal(3, 6, 180)
        share = 1 / (1 + np.exp(-(alpha + slope * np.tanh(longer / longer.std()))))
        noise = (rng.normal(size=60).repeat(3) + rng.normal(size=180)) / math.sqrt(2)
        clusters = np.arange(180) // 3
        matches = Matches((noise < to_normal(share)).astype(float), longer, np.zeros(180, int), clusters)
        found = length_controlled(matches, draws([""] * 60, 1, resamples=300, seed=number))["controlled"]
        hits += found["low"] <= 1 / (1 + math.exp(-alpha)) <= found["high"]
    assert 0.92 <= hits / 200 <= 0.98
