from __future__ import annotations

from collections import Counter

import pytest

from cai_lightning.microworld import prompts
from cai_lightning.microworld.world import combinations, request_of, split
from cai_lightning.text.records import prompt_id

READERS = {"red_team": prompts.red_team, "benign": prompts.benign, "borderline": prompts.borderline}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("part", ["train", "tune", "final"])
def test_prompts_are_distinct_and_of_their_split(kind, part):
    rows = READERS[kind](split=part, count=400, seed=3)
    assert len({row.id for row in rows}) == 400
    for row in rows:
        request = request_of(row.dialogue)
        assert (request.kind, row.kind, row.source) == (kind, kind, "microworld")
        assert row.cluster == "|".join(request.combination)
        assert row.id == prompt_id(row.dialogue)
        pairs = request.acts if kind == "red_team" else [request.combination]
        assert all(split(kind, *pair) == part for pair in pairs)


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("part", ["tune", "final"])
def test_combinations_come_once_before_they_come_twice(kind, part):
    existing = len(combinations(kind, part))
    rows = READERS[kind](split=part, count=existing + 20, seed=0)
    assert len({row.cluster for row in rows[:existing]}) == existing
    assert max(Counter(row.cluster for row in rows).values()) == 2


@pytest.mark.parametrize("kind", READERS)
def test_prompts_depend_on_their_seed_only(kind):
    rows = READERS[kind](split="tune", count=50, seed=1)
    assert rows == READERS[kind](split="tune", count=50, seed=1)
    assert rows == READERS[kind](split="tune", count=80, seed=1)[:50]
    assert rows != READERS[kind](split="tune", count=50, seed=2)


@pytest.mark.parametrize("kind", ["benign", "borderline"])
def test_more_prompts_than_exist_are_refused(kind):
    exist = len(combinations(kind, "final")) * 40 * 4  # persons and templates
    with pytest.raises(ValueError, match=f"{exist + 1} {kind} prompts of split 'final'.* only {exist} distinct"):
        READERS[kind](split="final", count=exist + 1, seed=0)


def test_red_team_capacity_by_enumeration():
    from cai_lightning.microworld.world import compatible

    acts = combinations("red_team", "final")
    exist = 4 * len(acts) + 3 * sum(compatible(a, b) for a in acts for b in acts)
    with pytest.raises(ValueError, match=f"only {exist} distinct"):
        prompts.red_team(split="final", count=10**9, seed=0)
