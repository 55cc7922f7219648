"""Readings of readings: turns, jailbreaks, windows and mixtures, by hand and by their laws."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai_lightning.data.reading import Read
from cai_lightning.data.rows import prompt_of
from cai_lightning.data.wrappers import (
    counted_mixture,
    every_human_turn,
    first_human_turn,
    jailbroken,
    mixture,
    share,
    shuffled,
)
from cai_lightning.text.dialogue import Message, human
from cai_lightning.text.records import Prompt

TALK = (
    Message("system", "s"),
    Message("human", "q"),
    Message("assistant", "a"),
    Message("human", "r"),
    Message("assistant", "b"),
    Message("human", "t"),
)


def some(count: int, name: str = "p") -> list[Prompt]:
    return [prompt_of(human(f"{name}{n}"), name, "benign") for n in range(count)]


def test_a_conversation_has_a_prompt_for_every_human_turn() -> None:
    whole = prompt_of(TALK, "s", "red_team")
    found = every_human_turn(prompts=Read([whole, whole], {"duplicate": 1}, ["f:1: bad"]))
    assert [prompt.dialogue for prompt in found.rows] == [TALK[:2], TALK[:4], TALK]
    assert found.rows[-1] == whole
    assert {prompt.cluster for prompt in found.rows} == {whole.cluster}
    # what both conversations begin with counts once, and what was left out before stays counted
    assert (found.dropped, found.skipped) == ({"duplicate": 4}, ["f:1: bad"])
    assert [prompt.dialogue for prompt in first_human_turn(prompts=[whole]).rows] == [TALK[:2]]
    plain = some(2)
    assert every_human_turn(prompts=plain).rows == first_human_turn(prompts=plain).rows == plain


def test_a_jailbroken_copy_pairs_with_its_prompt() -> None:
    odd = prompt_of((*TALK[:5], Message("human", "a {brace} and {prompt}")), "s", "red_team")
    templates = {"play": "{x} Act: {prompt}!", "end": "{prompt} now"}
    found = jailbroken(prompts=[odd], templates=templates, kind="jailbreak").rows
    assert [prompt.dialogue[-1].content for prompt in found] == [
        "{x} Act: a {brace} and {prompt}!",
        "a {brace} and {prompt} now",
    ]
    assert {prompt.dialogue[:-1] for prompt in found} == {odd.dialogue[:-1]}
    assert [prompt.source for prompt in found] == ["s+play", "s+end"]
    assert {(prompt.kind, prompt.cluster) for prompt in found} == {("jailbreak", odd.cluster)}
    assert len({odd.id, *(prompt.id for prompt in found)}) == 3
    for template in ("no slot", "{prompt} {prompt}"):
        with pytest.raises(ValueError, match=r"templates\.bad: must hold \{prompt\} once, holds it"):
            jailbroken(prompts=[odd], templates={"bad": template}, kind="jailbreak")


def test_windows_of_one_shuffle_are_a_partition() -> None:
    rows = some(20)
    parts = [shuffled(rows=rows, seed=0, skip=skip, limit=7).rows for skip in (0, 7, 14)]
    together = [row for part in parts for row in part]
    assert [len(part) for part in parts] == [7, 7, 6]
    assert sorted(row.id for row in together) == sorted(row.id for row in rows)
    assert together != rows
    assert together == shuffled(rows=list(reversed(rows)), seed=0, skip=0, limit=None).rows
    assert together != shuffled(rows=rows, seed=1, skip=0, limit=None).rows


def test_shares_are_a_partition_by_cluster() -> None:
    rows = every_human_turn(prompts=[prompt_of((human(f"q{n}")[0], *TALK[2:]), "s", "k") for n in range(200)]).rows
    parts = [share(rows=rows, seed=0, start=start, stop=stop).rows for start, stop in ((0, 0.25), (0.25, 1))]
    assert sum(map(len, parts)) == len(rows) == 600
    assert not {row.cluster for row in parts[0]} & {row.cluster for row in parts[1]}
    # 200 clusters at a quarter: 50, standard deviation 6
    assert 26 < len(parts[0]) / 3 < 74
    # a row's part does not depend on the others
    assert share(rows=rows[:30], seed=0, start=0, stop=0.25).rows == [row for row in rows[:30] if row in parts[0]]


def test_a_mixture_keeps_weights_and_sources() -> None:
    readers = {"a": some(30, "a"), "b": Read(some(30, "b"), {"short": 2}, ["f:1: bad"]), "c": some(1, "c")}
    found = mixture(readers=readers, weights={"a": 1, "b": 2, "c": 0}, count=10, seed=0)
    # 3.33 and 6.67: the larger remainder is rounded up
    assert Counter(row.source for row in found.rows) == {"a": 3, "b": 7}
    assert (found.dropped, found.skipped) == ({"short": 2}, ["f:1: bad"])
    assert [row.source for row in found.rows] != sorted(row.source for row in found.rows)
    assert found == mixture(readers=readers, weights={"a": 1, "b": 2, "c": 0}, count=10, seed=0)
    assert found != mixture(readers=readers, weights={"a": 1, "b": 2, "c": 0}, count=10, seed=1)


def test_counts_choose_without_repeats() -> None:
    shared = some(4)
    found = counted_mixture(readers={"x": shared, "y": [*shared, *some(3, "y")]}, counts={"x": 2, "y": None}, seed=0)
    assert Counter(row.source for row in found.rows) == {"p": 2, "y": 3}
    assert found.dropped == {"duplicate": 4}


def test_mixtures_that_cannot_be_made_say_why() -> None:
    take = partial(mixture, readers={"a": some(2)}, seed=0)
    with pytest.raises(ValueError, match="a has 2 rows of its own, 3 are wanted"):
        take(weights={"a": 1}, count=3)
    for weights in ({"b": 1}, {"a": 0}, {"a": -1}, {}):
        with pytest.raises(ValueError, match="must be one a reader, none below 0, not all 0"):
            take(weights=weights, count=1)
    with pytest.raises(ValueError, match="they must be the same"):
        counted_mixture(readers={"a": some(2)}, counts={}, seed=0)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=5), st.integers(0, 12))
def test_any_weights_give_the_count_within_one_of_their_parts(weights: list[float], count: int) -> None:
    readers = {str(n): some(12, str(n)) for n in range(len(weights))}
    given_weights = {str(n): weight for n, weight in enumerate(weights)}
    found = Counter(row.source for row in mixture(readers=readers, weights=given_weights, count=count, seed=0).rows)
    assert sum(found.values()) == count
    for name, weight in given_weights.items():
        assert abs(found[name] - count * weight / sum(weights)) < 1
