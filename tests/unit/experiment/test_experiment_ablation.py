from pathlib import Path

import pytest

from cai_lightning.experiment.ablation import as_run
from cai_lightning.experiment.asked import asked
from cai_lightning.experiment.compose import compose_config
from cai_lightning.experiment.errors import UserError
from cai_lightning.experiment.pipeline import make_plan

LEAVE = "without=null,harmful_unethical,wrong_bad"


def test_labels_take_one_run_and_models_one_more_for_each_principle() -> None:
    assert as_run(["constitution=two_principles"]) == ["experiment=[ablate_labels]", "constitution=two_principles"]
    assert as_run(["-m", "experiment=smoke", "replicate=0,1"]) == [
        "experiment=[smoke,ablate_labels]",
        "-m",
        "replicate=0,1",
    ]
    wanted = as_run(["through=reward_model", "experiment=smoke", "constitution=two_principles"])
    assert wanted == ["-m", "experiment=[smoke,ablate_reward_model]", "constitution=two_principles", LEAVE]
    flagged = as_run(["through=training", "constitution=two_principles", "-m", "replicate=0,1"])
    assert flagged[-1] == LEAVE and len(asked(flagged).jobs) == 6
    assert as_run(["through=training", "without=wrong_bad"]) == ["experiment=[ablate_training]", "without=wrong_bad"]


def test_a_whole_pipeline_is_made_of_what_is_left_of_a_constitution(tmp_path: Path) -> None:
    wanted = as_run(["through=pipeline", "experiment=smoke", "constitution=two_principles"])
    assert wanted == ["-m", "experiment=[smoke,ablate_pipeline]", "constitution@whole=two_principles", LEAVE]
    texts = set()
    for job in asked(wanted).jobs:
        plan = make_plan(compose_config([*job, f"runtime.outputs={tmp_path}"]))
        revising, comparing = (plan.nodes[slot].values["constitution"] for slot in ("revisions", "labels"))
        assert revising == comparing and plan.nodes["ppo"].key
        texts.add(plan.nodes["ppo"].key)
    assert len(texts) == 3
    one = "whole.principles=[{id: one, critique: c, revision: r, comparison: less},{id: two, comparison: less}]"
    assert as_run(["through=pipeline", one.replace("whole", "constitution"), "without=two"])[1] == one


def test_ids_that_are_no_words_are_quoted() -> None:
    three = "[{id:'a b',comparison:x},{id:'null',comparison:y},{id:revises,critique:c,revision:r}]"
    wanted = as_run(["through=reward_model", f"constitution.principles={three}"])
    assert wanted[-1] == "without=null,'a b','null'"
    assert [job[-1] for job in asked(wanted).jobs] == ["without=null", "without='a b'", "without='null'"]


def test_what_cannot_be_left_out_is_said_at_once() -> None:
    with pytest.raises(UserError, match="through: is 'reward'; it is one of labels, pipeline, reward_model, training"):
        as_run(["through=reward"])
    with pytest.raises(UserError, match="constitution: 1 principle compares; to leave one out takes two"):
        as_run(["through=training", "constitution.principles=[{id: one, comparison: less}]"])
