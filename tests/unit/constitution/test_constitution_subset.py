"""Subsets: how many, which, and that greedy choices are the best of all."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import pytest

from cai_lightning.constitution.principles import Constitution, constitution
from cai_lightning.constitution.subset import drawn, narrow, subset, wide, without

AIMS = ["red green", "red", "green", "blue white", "blue white black", "red green grey"]


@pytest.fixture
def whole() -> Constitution:
    principles: list[dict[str, Any]] = [{"id": f"p{k}", "comparison": f"less {aim}"} for k, aim in enumerate(AIMS)]
    template = "{conversation} {principle} {a} {b}"
    return constitution(
        name="six", principles=principles, critique_few_shots=[], comparison_few_shots=[], comparison_template=template
    )


def ids(made: Constitution) -> list[str]:
    return [principle.id for principle in made.principles]


@pytest.mark.parametrize("pick", [drawn, wide, narrow])
def test_a_subset_keeps_the_order_and_the_words_and_differs_by_seed(whole: Constitution, pick: Any) -> None:
    made = [subset(whole=whole, count=3, pick=pick, seed=seed) for seed in range(6)]
    assert all(ids(one) == sorted(ids(one)) and len(one.principles) == 3 for one in made)
    assert all(principle in whole.principles for one in made for principle in one.principles)
    assert len({tuple(ids(one)) for one in made}) > 1
    assert ids(subset(whole=whole, count=6, pick=pick, seed=1)) == ids(whole)


def test_smaller_draws_lie_within_larger_ones_and_all_principles_are_drawn(whole: Constitution) -> None:
    for seed in range(5):
        sets = [set(ids(subset(whole=whole, count=n, pick=drawn, seed=seed))) for n in range(1, 7)]
        assert all(small < large for small, large in pairwise(sets))
    singles = {ids(subset(whole=whole, count=1, pick=drawn, seed=seed))[0] for seed in range(60)}
    assert singles == set(ids(whole))


def test_two_that_cover_most_and_least_by_hand(whole: Constitution) -> None:
    """Beside "blue white black" (p4) most is added by "red green grey" (p5), least by "blue white" (p3)."""
    seed = next(s for s in range(200) if ids(subset(whole=whole, count=1, pick=drawn, seed=s)) == ["p4"])
    assert ids(subset(whole=whole, count=2, pick=wide, seed=seed)) == ["p4", "p5"]
    assert ids(subset(whole=whole, count=2, pick=narrow, seed=seed)) == ["p3", "p4"]


@pytest.mark.parametrize("count", [0, 7])
def test_a_count_that_there_is_not_is_refused(whole: Constitution, count: int) -> None:
    with pytest.raises(ValueError, match=f"count: is {count}; the constitution 'six' has 6 principles"):
        subset(whole=whole, count=count, pick=drawn, seed=0)


def test_one_left_out_leaves_the_others_as_they_were(whole: Constitution) -> None:
    revised = dataclasses.replace(whole.principles[0], id="r", critique="c", revision="r")
    whole = dataclasses.replace(whole, principles=(*whole.principles, revised))
    assert without(whole=whole, id=None) is whole
    found = without(whole=whole, id="p2")
    assert (
        found.principles == tuple(one for one in whole.principles if one.id != "p2") and found.name == "six without p2"
    )
    with pytest.raises(ValueError, match="without: 'p9' is none of the principles of 'six'"):
        without(whole=whole, id="p9")
    with pytest.raises(ValueError, match="without: 'six' has no other principle that revises"):
        without(whole=whole, id="r")
