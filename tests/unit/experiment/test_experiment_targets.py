"""Signatures from source text, type checks, the allow-list, construction."""

import subprocess
import sys
from typing import Annotated, Any

import pytest

from cai_lightning.experiment.errors import UserError
from cai_lightning.experiment.signatures import UNCHECKED, signature
from cai_lightning.experiment.sources import package_sources, source_digest
from cai_lightning.experiment.targets import check_node, check_value, construct, kinds, source_parameters


def test_a_signature_is_read_without_importing_the_module() -> None:
    found = signature("cai_lightning.stages.respond.run")
    assert found.parameters["temperature"] is float
    assert kinds(found.parameters["policy"]) == ("causal_lm",)
    assert kinds(found.result) == ("rows/response",)
    assert "out" in found.required


def test_classes_and_dataclasses_have_signatures_too() -> None:
    assert signature("cai_lightning.microworld.judge.OracleJudge").parameters["punish_evasion"] is bool
    assert signature("cai_lightning.microworld.noise.Rater").parameters["flip"] is float


def test_what_cannot_be_evaluated_is_left_unchecked() -> None:
    assert signature("cai_lightning.learning.fit.fit").parameters["loggers"] is UNCHECKED


@pytest.mark.parametrize(
    ("value", "annotation", "fits"),
    [
        (1, float, True),
        (1.5, float, True),
        ("1e-5x", float, False),
        ("3", int, False),
        (3.0, int, False),
        (3.5, int, False),
        (True, bool, True),
        ("yes", bool, False),
        ([0.4, 0.6], tuple[float, float], True),
        ([0.4], tuple[float, float], False),
        (None, int | None, True),
        ({"ai": None}, dict[str, int | None], True),
        ({"ai": "all"}, dict[str, int | None], False),
        (["a"], list[str], True),
        ("a", list[str], False),
        (5, UNCHECKED, True),
    ],
)
def test_leaves_are_checked_against_annotations(value: Any, annotation: Any, fits: bool) -> None:
    if fits:
        check_value(value, annotation, "stages.x.y")
    else:
        with pytest.raises(UserError, match=r"stages\.x\.y"):
            check_value(value, annotation, "stages.x.y")


def test_a_mistyped_parameter_is_named_with_the_nearest_one() -> None:
    node = {"_target_": "cai_lightning.learning.losses.dpo_loss", "_partial_": True, "bta": 0.1}
    with pytest.raises(UserError, match=r"stages\.dpo\.loss\.bta: .*'beta'"):
        check_node(node, "stages.dpo.loss", ())


@pytest.mark.parametrize(
    "target",
    ["os.system", "builtins.eval", "subprocess.run", "logging.FileHandler", "cai_lightning.experiment.store.Store"],
)
def test_targets_outside_the_allow_list_are_refused(target: str) -> None:
    with pytest.raises(UserError, match="not allowed"):
        check_node({"_target_": target}, "stages.x", ())


def test_a_package_of_the_users_own_can_be_allowed() -> None:
    check_node({"_target_": "my_lab.losses.mine"}, "stages.x", ("my_lab",))


def test_nested_targets_are_built_innermost_first() -> None:
    node = {
        "_target_": "cai_lightning.experiment.targets.as_path",
        "value": {"_target_": "cai_lightning.text.records.fingerprint", "text": "a"},
    }
    # sha256("a") = ca978112ca1bbdca...
    assert construct([node])[0].name == "ca978112ca1bbdca"


def test_sources_are_known_by_their_annotation() -> None:
    assert source_parameters("cai_lightning.data.hh.hh_prompts") == ("path",)
    assert source_parameters("torch.optim.AdamW") == ()


def test_kinds_look_into_containers_and_unions() -> None:
    rows = Annotated[str, "rows/label"]
    assert kinds(list[rows]) == kinds(dict[str, rows]) == kinds(rows | None) == ("rows/label",)
    assert kinds(int) == ()
    either = rows | Annotated[str, "table"]
    assert kinds(either) == kinds(list[either] | None) == ("rows/label", "table")


def test_the_sources_of_a_stage_are_what_it_imports_directly_or_not() -> None:
    names = {path.name for path in package_sources("cai_lightning.stages.label")}
    assert {"label.py", "feedback.py", "dialogue.py", "engine.py", "sampler.py"} <= names
    assert "ppo.py" not in names


def test_the_digest_of_a_recipe_covers_every_target_in_it() -> None:
    stage = {"_target_": "cai_lightning.stages.prompts.run", "version": 1}
    read = {**stage, "readers": [{"_target_": "cai_lightning.microworld.prompts.red_team", "count": 1}]}
    assert source_digest(stage) != source_digest(read)
    assert source_digest(read) == source_digest({**read, "readers": [{**read["readers"][0], "count": 2}]})
    assert source_digest({**stage, "optimizer": {"_target_": "torch.optim.AdamW"}}) == source_digest(stage)


def test_the_sources_of_a_stage_are_found_without_an_import() -> None:
    code = (
        "import sys; from cai_lightning.experiment.sources import source_digest; "
        "source_digest({'_target_': 'cai_lightning.stages.ppo.run'}); "
        "sys.exit(any(name.startswith(('torch', 'cai_lightning.learning')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_name_that_an_import_gave_away_is_not_taken_for_its_own() -> None:
    """`report.reward` imports rich's Table as Lines beside ours, so a missing table is seen before it is opened."""
    found = signature("cai_lightning.report.reward.run")
    assert kinds(found.parameters["reward_accuracy"]) == kinds(found.parameters["others"]) == ("table",)
