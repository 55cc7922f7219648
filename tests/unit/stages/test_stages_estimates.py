"""Estimates of rows, calls and tokens, by hand on small recipes."""

import math

import pytest

from cai_lightning.stages import answers, dpo, label, revise, sft, verdicts
from cai_lightning.stages.estimates import Estimate, from_readers, taken

MANY = Estimate(10, length=100.0, prompts=10)


@pytest.mark.parametrize(
    ("reader", "rows"),
    [
        ({"count": 12, "seed": 0}, 12),
        ({"path": "file", "limit": 7}, 7),
        ({"seed": 0, "comparisons": {"count": 5}}, 5),
        ({"path": "file", "limit": None}, math.nan),
        ({"path": "file"}, math.nan),
    ],
)
def test_readers_give_what_they_are_limited_to(reader: dict[str, object], rows: float) -> None:
    assert from_readers([reader, {"count": 1}], 32).rows == pytest.approx(rows + 1, nan_ok=True)


def test_a_revision_costs_two_samples_a_round() -> None:
    recipe = {"responses": MANY, "rounds": 4, "critique": True, "critique_tokens": 10, "revision_tokens": 20}
    made = revise.estimate(recipe)
    assert (made.rows, made.calls) == (40, 80)
    # critique 100 + 24 + 10, revision another 24 + 20
    assert made.tokens == 40 * (134 + 178)
    assert revise.estimate({**recipe, "critique": False}).calls == 40


def test_sft_counts_the_chosen_revisions() -> None:
    revisions = Estimate(40, length=100.0, prompts=10)
    recipe = {"revisions": revisions, "responses": MANY, "fit": {"epochs": 2}}
    calls = {
        name: sft.estimate({**recipe, "choose": {"_target_": f"cai_lightning.stages.sft.{name}", **more}}).calls
        for name, more in (("final", {}), ("every", {}), ("up_to", {"rounds": 3}))
    }
    assert calls == {"final": 40, "every": 100, "up_to": 80}


def test_mixtures_take_no_more_than_their_limits() -> None:
    assert taken({"ai": MANY, "human": MANY}, {"ai": None, "human": 3}) == (13, 1300)
    recipe = {"labels": {"ai": MANY, "human": MANY}, "limits": {"ai": 100, "human": 3}, "fit": {"epochs": 2}}
    assert dpo.estimate(recipe)[:3] == (None, 52, 2600)


def test_orders_snapshots_and_opponents_multiply() -> None:
    both = {"_target_": "cai_lightning.constitution.feedback.both_orders"}
    assert label.estimate({"comparisons": MANY, "order": both}).calls == 20
    policy = Estimate(None, players=5)
    recipe = {"prompts": [MANY, MANY], "policy": policy, "snapshots": True, "max_new_tokens": 20}
    assert answers.estimate(recipe).rows == 100
    assert answers.estimate({**recipe, "snapshots": False}).rows == 20
    assert verdicts.estimate({"answers": MANY, "opponents": [MANY] * 3, "judge": {}})[:2] == (30, 0)
    assert verdicts.estimate({"answers": MANY, "opponents": [MANY] * 3, "judge": {"scorer": {}}}).calls == 60


def test_the_unknown_stays_unknown() -> None:
    unknown = Estimate(math.nan, length=100.0, prompts=math.nan)
    assert math.isnan(verdicts.estimate({"answers": unknown, "opponents": [MANY], "judge": {}}).rows or 0)
    assert math.isnan(taken({"ai": unknown}, {"ai": None})[0])
