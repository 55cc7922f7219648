from __future__ import annotations

from math import sqrt

import pytest

from cai_lightning.microworld.oracle import assess
from cai_lightning.microworld.prompts import benign, red_team
from cai_lightning.microworld.votes import ranked_answers

MANY = {"answers": 4, "readers": 40, "attention": 0.5, "seed": 0}


def test_votes_are_binomial_counts_of_the_share_of_right_slots():
    """By the oracle's slots: means within four standard errors, and the variance of a binomial."""
    rows = ranked_answers(prompts=benign(split="train", count=400, seed=0), **MANY)
    by_wrong = {}
    for row in rows:
        for answer, votes in zip(row.answers, row.votes, strict=True):
            by_wrong.setdefault(round(7 * (1 - assess(row.prompt.dialogue, answer).slots_right)), []).append(votes)
    assert sorted(by_wrong) == [0, 1, 2, 3, 4]
    for wrong, found in by_wrong.items():
        p, n = 0.5 * (7 - wrong) / 7, len(found)
        assert abs(n - 320) < 4 * sqrt(1600 * 0.2 * 0.8)
        mean = sum(found) / n
        assert abs(mean - 40 * p) < 4 * sqrt(40 * p * (1 - p) / n)
        variance = sum((one - mean) ** 2 for one in found) / n
        assert variance == pytest.approx(40 * p * (1 - p), rel=0.35)


def test_equal_seeds_give_equal_rows_whatever_stands_beside_them():
    prompts = benign(split="train", count=6, seed=0)
    rows = ranked_answers(prompts=prompts, **MANY)
    assert ranked_answers(prompts=prompts[::-1], **MANY) == rows[::-1]
    assert ranked_answers(prompts=prompts, **(MANY | {"seed": 1})) != rows
    assert [(row.prompt, row.id, len(row.answers), len(row.votes)) for row in rows] == [
        (prompt, prompt.id, 4, 4) for prompt in prompts
    ]


def test_nobody_votes_on_replies_to_red_team_prompts():
    with pytest.raises(ValueError, match="nobody votes on replies to red_team prompts"):
        ranked_answers(prompts=red_team(split="train", count=1, seed=0), **MANY)
