"""One `trainer` for all learning stages of a run: what it reaches, what a stage may say against it, what is refused."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cai_lightning.experiment.compose import CONF, compose_config
from cai_lightning.experiment.errors import UserError
from cai_lightning.experiment.pipeline import Plan, make_plan

LEARNING = ("sft", "reward_model", "dpo", "ppo")


def plan(*overrides: str) -> Plan:
    return make_plan(compose_config(["runtime.outputs=nowhere", *overrides]))


def fits(*overrides: str) -> dict[str, Any]:
    return {slot: node.values["fit"] for slot, node in plan(*overrides).nodes.items() if "fit" in node.values}


def keys(*overrides: str) -> dict[str, str]:
    return {slot: node.key for slot, node in plan(*overrides).nodes.items()}


def test_one_trainer_is_what_each_stage_is_given_by_name() -> None:
    assert keys("trainer=ddp") == keys(*(f"trainer@stages.{slot}.fit=ddp" for slot in LEARNING))
    assert keys("trainer=default") == keys()
    sharded = ["trainer@stages.ppo.fit=ddp", *(f"trainer@stages.{slot}.fit=fsdp" for slot in LEARNING[:3])]
    assert keys("trainer=fsdp", "trainer@stages.ppo.fit=ddp") == keys(*sharded)


@pytest.mark.parametrize("base", ["pretrain", "pretrain_text"])
def test_every_stage_that_learns_shares_it(base: str) -> None:
    config = compose_config(["trainer.clip=0.25", "experiment=baselines", f"stage/base@stages.base={base}"])
    clips = {slot: stage.fit.clip for slot, stage in config.stages.items() if "fit" in stage}
    assert {"base", *LEARNING, "kto"} < set(clips)
    assert set(clips.values()) == {0.25}
    # and no number of a trainer is left out
    shared, default = (OmegaConf.load(CONF / "trainer" / f"{name}.yaml") for name in ("shared", "default"))
    assert {*shared} == {*default, "strategy"}


def test_what_a_stage_says_itself_stands() -> None:
    own = [
        "trainer=fsdp",
        "trainer.devices=8",
        "trainer@stages.ppo.fit=default",
        "strategy@stages.dpo.fit.strategy=ddp",
        "stages.sft.fit.devices=4",
    ]
    found = fits(*own)
    assert {slot: fit["devices"] for slot, fit in found.items()} == {"sft": 4, "reward_model": 8, "dpo": 8, "ppo": 1}
    assert found["dpo"]["strategy"] == fits("trainer@stages.dpo.fit=ddp")["dpo"]["strategy"]
    assert {slot: fit["epochs"] for slot, fit in found.items()} == {slot: fit["epochs"] for slot, fit in fits().items()}


def test_a_preset_chooses_it_for_all_stages() -> None:
    found = fits("experiment=llama3_8b_8gpu")
    assert set(found) == {"sft", "reward_model", "dpo"}
    for fit in found.values():
        assert fit["strategy"]["_target_"].endswith(".Sharded")
        assert (fit["devices"], fit["accumulate"], fit["checkpoint_activations"]) == (8, 1, True)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer=fsdp"], r"stages\.ppo: fit\.strategy: .* add trainer@stages\.ppo\.fit=ddp"),
        (["strategy@stages.ppo.fit.strategy=fsdp2"], r"stages\.ppo: fit\.strategy: PPO samples from the whole policy"),
        (["trainer=dpp"], "'ddp'"),
        (["trainer@stages.sft.fit=dpp"], "'ddp'"),
        (["trainer@stages.sfft.fit=ddp"], r"'stages\.sft\.fit'"),
        (["trainer=shared"], r"trainer\.\w+: refers to itself"),
        (["trainer.device=2"], r"'trainer\.devices'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_plan_refuses_what_cannot_be(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        plan(*overrides)
    assert "\n" not in str(error.value)


def test_a_refused_trainer_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        plan("trainer=fsdp", f"runtime.outputs={tmp_path / 'outputs'}")
    assert list(tmp_path.iterdir()) == []
