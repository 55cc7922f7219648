"""Estimates of rows, calls and tokens, by hand on small recipes."""

import json
import math
from pathlib import Path

import pytest

from cai_lightning.stages import answers, dpo, label, respond, revise, reward_model, sft, verdicts
from cai_lightning.stages.estimates import Estimate, from_readers, taken
from cai_lightning.stages.shapes import Shape

MANY = Estimate(10, length=100.0, prompts=10)
SHAPE = Shape(1e6, hidden_size=100, layers=10, heads=4, kv_heads=2, head_dim=25, intermediate_size=200, vocab_size=1000)
MODEL = Estimate(None, shape=SHAPE)
SAMPLING = {"chunk": 4, "batch_size": 8, "dtype": "float32"}
TRAINING = {"policy": MODEL, "fit": {"epochs": 2, "precision": "32-true"}, "data": {"batch_tokens": 64}}


@pytest.mark.parametrize(
    ("reader", "rows"),
    [
        ({"count": 12, "seed": 0}, 12),
        ({"path": "file", "limit": 7}, 7),
        ({"seed": 0, "comparisons": {"count": 5}}, 5),
        ({"path": "file", "limit": None}, math.nan),
        ({"path": "file"}, math.nan),
        ({"prompts": {"path": "file", "limit": 7}, "templates": {"play": "{prompt}", "end": "{prompt}"}}, 14),
        ({"ranked": {"prompts": {"count": 8}}, "pairs_per_prompt": 2}, 16),
        ({"ranked": {"prompts": {"count": 8}}, "pairs_per_prompt": None}, math.nan),
    ],
)
def test_readers_give_what_they_are_limited_to(reader: dict[str, object], rows: float) -> None:
    assert from_readers([reader, {"count": 1}], 1).rows == pytest.approx(rows + 1, nan_ok=True)


def test_prompts_of_files_are_longer_than_the_micro_worlds() -> None:
    assert from_readers([{"_target_": "cai_lightning.microworld.prompts.benign", "count": 3}], 2).length == 64
    assert from_readers([{"_target_": "cai_lightning.data.rows.prompts", "limit": 3}], 2).length == 320


def test_a_revision_costs_two_samples_a_round() -> None:
    recipe = {"responses": MANY, "rounds": 4, "critique": True, "critique_tokens": 10, "revision_tokens": 20}
    principles = [{"id": "x", "critique": "c" * 64, "revision": "r" * 128}]
    constitution = {"principles": principles, "critique_few_shots": []}
    recipe |= {"reviser": MODEL, "constitution": constitution, **SAMPLING}
    made = revise.estimate(recipe)
    assert (made.rows, made.calls) == (40, 80)
    # wordings of 16 and 32 tokens, 24 on average: critique 100 + 24 + 10, revision another 24 + 20
    assert made.tokens == 40 * (134 + 178)
    shown = {**constitution, "critique_few_shots": ["e" * 396]}  # as the list is printed, 400 characters
    assert revise.estimate({**recipe, "constitution": shown}).tokens == 40 * (234 + 278)
    assert revise.estimate({**recipe, "critique": False}).calls == 40


def test_sft_counts_the_chosen_revisions() -> None:
    revisions = Estimate(40, length=100.0, prompts=10)
    recipe = {"revisions": revisions, "responses": MANY, **TRAINING}
    calls = {
        name: sft.estimate({**recipe, "choose": {"_target_": f"cai_lightning.stages.sft.{name}", **more}}).calls
        for name, more in (("final", {}), ("every", {}), ("up_to", {"rounds": 3}))
    }
    assert calls == {"final": 40, "every": 100, "up_to": 80}


def test_mixtures_take_no_more_than_their_limits() -> None:
    assert taken({"ai": MANY, "human": MANY}, {"ai": None, "human": 3}) == (13, 1300)
    recipe = {"labels": {"ai": MANY, "human": MANY}, "limits": {"ai": 100, "human": 3}, "part": None, **TRAINING}
    assert dpo.estimate(recipe)[:3] == (None, 52, 2600)
    half = {**recipe, "part": {"number": 0, "of": 2}}
    assert dpo.estimate(half)[:3] == reward_model.estimate(half)[:3] == (None, 32, 1600)


def test_orders_snapshots_and_opponents_multiply() -> None:
    both = {"_target_": "cai_lightning.constitution.feedback.both_orders"}
    asked = {"comparisons": MANY, "order": both, "reasoning_samples": 0, "pick": {}, "constitution": {}}
    asked |= {"feedback_model": MODEL, "thought_tokens": 50, **SAMPLING}
    assert label.estimate(asked).calls == 20
    assert label.estimate({**asked, "pick": {"count": 4}}).calls == 80
    assert label.estimate({**asked, "reasoning_samples": 3}).calls == 20 * (3 + 3)
    policy = MODEL._replace(players=5)
    recipe = {"prompts": [MANY, MANY], "policy": policy, "snapshots": True, "max_new_tokens": 20, **SAMPLING}
    assert answers.estimate(recipe).rows == 100
    assert answers.estimate({**recipe, "snapshots": False}).rows == 20
    assert verdicts.estimate({"answers": MANY, "opponents": [MANY] * 3, "judge": {}})[:2] == (30, 0)
    judge = {"scorer": {"path": MODEL, **SAMPLING}}
    assert verdicts.estimate({"answers": MANY, "opponents": [MANY] * 3, "judge": judge}).calls == 60


def test_the_unknown_stays_unknown() -> None:
    unknown = Estimate(math.nan, length=100.0, prompts=math.nan)
    assert math.isnan(verdicts.estimate({"answers": unknown, "opponents": [MANY], "judge": {}}).rows or 0)
    assert math.isnan(taken({"ai": unknown}, {"ai": None})[0])


def test_models_hand_their_shape_on_and_stages_know_their_memory() -> None:
    recipe = {"prompts": MANY, "policy": MODEL, "max_new_tokens": 20, **SAMPLING}
    made = respond.estimate(recipe)
    # four rows of a chunk: weights, 120 tokens of 4 kB, units of one layer at 100 tokens, logits
    assert made.memory == 4e6 + 4 * 120 * 4000 + 4 * 100 * 800 * 4 + 4 * 1000 * 8
    trained = sft.estimate({"revisions": MANY, "responses": MANY, "choose": {"_target_": "sft.final"}, **TRAINING})
    # 16 bytes a weight; 64 tokens of 68 kB activations and 12 kB logits
    assert (trained.shape, trained.memory) == (SHAPE, 16e6 + 64 * 80_000)
    assert math.isnan(respond.estimate({**recipe, "policy": Estimate(None)}).memory)


def test_a_finished_artifact_shows_its_rows_and_its_shape(tmp_path: Path) -> None:
    assert MANY.finished(tmp_path, 7) == MANY._replace(rows=7)
    assert MODEL.finished(tmp_path, None) == MODEL
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 5, "vocab_size": 3}
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 4, "tie_word_embeddings": True, **sizes}))
    shape = MODEL.finished(tmp_path, None).shape
    # attention 4 x 16, MLP 3 x 20, norms 3 x 4, embeddings 3 x 4
    assert shape is not None
    assert shape.parameters == 64 + 60 + 12 + 12
