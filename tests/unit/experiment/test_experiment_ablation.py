import pytest

from cai_lightning.experiment.ablation import as_run
from cai_lightning.experiment.asked import asked
from cai_lightning.experiment.errors import UserError

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


def test_ids_that_are_no_words_are_quoted() -> None:
    three = "[{id:'a b',comparison:x},{id:'null',comparison:y},{id:revises,critique:c,revision:r}]"
    wanted = as_run(["through=reward_model", f"constitution.principles={three}"])
    assert wanted[-1] == "without=null,'a b','null'"
    assert [job[-1] for job in asked(wanted).jobs] == ["without=null", "without='a b'", "without='null'"]


def test_what_cannot_be_left_out_is_said_at_once() -> None:
    with pytest.raises(UserError, match="through: is 'reward'; it is one of labels, reward_model, training"):
        as_run(["through=reward"])
    with pytest.raises(UserError, match="constitution: 1 principle compares; to leave one out takes two"):
        as_run(["through=training", "constitution.principles=[{id: one, comparison: less}]"])
