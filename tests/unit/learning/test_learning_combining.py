"""One score from several: by hand, against slow loops, and by the laws that hold for any scores."""

from functools import partial
from math import sqrt

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cai_lightning.learning.combining import less_deviation, less_variance, lowest, mean, weighted

SCORES = {"one": torch.tensor([1.0, 4.0, -2.0]), "two": torch.tensor([3.0, 4.0, 2.0])}
PENALISED = {
    "less_variance": partial(less_variance, coef=0.5),
    "less_deviation": partial(less_deviation, deviations=2.0),
}


def test_two_members_by_hand():
    """Means 2, 4, 0; variances 1, 0, 4 and their roots 1, 0, 2."""
    assert mean(SCORES).tolist() == [2, 4, 0]
    assert lowest(SCORES).tolist() == [1, 4, -2]
    assert less_variance(SCORES, coef=0.5).tolist() == [1.5, 4, -2]
    assert less_deviation(SCORES, deviations=2.0).tolist() == [0, 4, -4]
    assert weighted(SCORES, weights={"two": 2.0, "one": -1.0}).tolist() == [5, 4, 6]


def slow(scores, row):
    """Mean, least, variance and deviation of a row, by their definitions."""
    values = [found[row].item() for found in scores.values()]
    middle = sum(values) / len(values)
    variance = sum((value - middle) ** 2 for value in values) / len(values)
    return middle, min(values), variance, sqrt(variance)


members = st.integers(1, 5).flatmap(
    lambda rows: st.lists(st.lists(st.floats(-50, 50, width=32), min_size=rows, max_size=rows), min_size=1, max_size=5)
)


@given(members)
def test_they_are_what_slow_loops_say(table):
    scores = {str(number): torch.tensor(row, dtype=torch.float64) for number, row in enumerate(table)}
    shares = {name: 0.5 + number for number, name in enumerate(scores)}
    found = {
        "mean": mean(scores),
        "lowest": lowest(scores),
        "variance": less_variance(scores, coef=0.3),
        "deviation": less_deviation(scores, deviations=1.7),
        "weighted": weighted(scores, weights=shares),
    }
    for row in range(len(table[0])):
        middle, least, variance, deviation = slow(scores, row)
        expected = {
            "mean": middle,
            "lowest": least,
            "variance": middle - 0.3 * variance,
            "deviation": middle - 1.7 * deviation,
            "weighted": sum(shares[name] * scores[name][row].item() for name in scores),
        }
        assert {name: values[row].item() for name, values in found.items()} == pytest.approx(expected, abs=1e-6)


@given(members, st.floats(-20, 20))
def test_a_shift_of_all_members_shifts_the_score_and_disagreement_never_pays(table, shift):
    scores = {str(number): torch.tensor(row, dtype=torch.float64) for number, row in enumerate(table)}
    shifted = {name: row + shift for name, row in scores.items()}
    for combine in (mean, lowest, *PENALISED.values()):
        assert torch.allclose(combine(shifted), combine(scores) + shift, atol=1e-6)
        assert (combine(scores) <= mean(scores) + 1e-9).all()


@pytest.mark.parametrize("combine", [mean, lowest, *PENALISED.values()])
def test_one_member_and_members_that_agree_are_that_member(combine):
    row = torch.tensor([0.5, -3.0])
    assert combine({"one": row}).tolist() == combine({"one": row, "other": row}).tolist() == row.tolist()


def test_a_weight_for_each_member_or_one_line():
    with pytest.raises(ValueError, match=r"weights: {'one': 1.0} given, but one is wanted for each of one, two"):
        weighted(SCORES, weights={"one": 1.0})
    with pytest.raises(ValueError, match="one is wanted for each of one, two"):
        weighted(SCORES, weights={"one": 1.0, "two": 1.0, "three": 1.0})
