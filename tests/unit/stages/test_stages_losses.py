"""A plan knows which losses read a reference, and of what kind of rows."""

from pathlib import Path

import pytest

from cai_lightning.experiment.compose import CONF, compose_config
from cai_lightning.experiment.errors import UserError
from cai_lightning.experiment.pipeline import make_plan
from cai_lightning.experiment.targets import construct
from cai_lightning.learning.losses import needs_reference
from cai_lightning.stages import dpo, kto

LOSSES = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))


def plan(*overrides: str) -> set[str]:
    return set(make_plan(compose_config([*overrides, "runtime.outputs=nowhere"])).nodes)


@pytest.mark.parametrize("name", LOSSES)
def test_what_a_plan_says_of_a_loss_is_what_the_loss_says_of_itself(name: str) -> None:
    chosen = [f"loss@stages.dpo.loss={name}"]
    loss = compose_config(chosen).stages.dpo.loss
    assert "dpo" in plan(*chosen, "stages.dpo.reference=null")
    if needs_reference(construct({**loss})):
        assert "reference" in plan(*chosen)
    else:
        refused = r"^stages\.dpo: reference: this loss looks at the policy alone; set stages\.dpo\.reference=null$"
        with pytest.raises(UserError, match=refused):
            plan(*chosen)


def test_losses_of_pairs_and_of_single_replies_are_told_apart() -> None:
    pairs = ["~unpaired_loss@stages.kto.loss", "+loss@stages.kto.loss=ipo"]
    with pytest.raises(
        UserError, match=r"^stages\.kto: loss: is one of pairs; .* unpaired_loss@stages\.kto\.loss=kto$"
    ):
        plan("experiment=kto", *pairs)
    single = ["~loss@stages.dpo.loss", "+unpaired_loss@stages.dpo.loss=kto"]
    with pytest.raises(
        UserError, match=r"^stages\.dpo: loss: is one of replies rated alone; .* loss@stages\.dpo\.loss=dpo$"
    ):
        plan(*single)


def test_an_iteration_of_ppo_ends_with_a_whole_step() -> None:
    plan("experiment=smoke", "stages.ppo.fit.accumulate=2")  # 2 passes x 16 rollouts / 8
    with pytest.raises(UserError, match=r"^stages\.ppo: fit\.accumulate: 3 minibatches a step do not divide the 4 "):
        plan("experiment=smoke", "stages.ppo.fit.accumulate=3")


def test_a_loss_of_another_package_is_left_to_the_stage(tmp_path: Path) -> None:
    other = {"loss": {"_target_": "somewhere.else.loss"}, "reference": tmp_path}
    dpo.check_recipe(other)
    kto.check_recipe(other)
