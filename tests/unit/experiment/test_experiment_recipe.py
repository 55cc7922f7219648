"""Raw interpolations are the graph; keys follow content, not names, order or place."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cai_lightning import microworld
from cai_lightning.experiment.compose import compose_config
from cai_lightning.experiment.digest import Digests, json_digest
from cai_lightning.experiment.errors import UserError
from cai_lightning.experiment.pipeline import Plan, make_plan, stale, upstream
from cai_lightning.experiment.recipe import Edge, raw_value
from cai_lightning.experiment.sources import source_digest

PROMPTS = {
    "_target_": "cai_lightning.stages.prompts.run",
    "version": 1,
    "readers": [
        {"_target_": "cai_lightning.microworld.prompts.red_team", "split": "train", "count": 3, "seed": "${replicate}"}
    ],
}
IMPORT = {
    "_target_": "cai_lightning.stages.import_model.run",
    "version": 1,
    "path": "???",
    "base": None,
    "base_folder": None,
    "dtype": "float32",
    "template": {"_target_": "cai_lightning.models.templates.own", "_partial_": True},
}
RESPOND = {
    "_target_": "cai_lightning.stages.respond.run",
    "version": 1,
    "policy": "${roles.helpful_only}",
    "prompts": "${stages.prompts}",
    "temperature": 1.0,
    "max_new_tokens": 8,
    "stop": [],
    "chunk": 2,
    "batch_size": 2,
    "dtype": "float32",
    "route": "packed",
    "seed": "${replicate}",
}


def config(tmp_path: Path, **changes: Any) -> Any:
    model = tmp_path / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text("{}")
    tree = {
        "replicate": 0,
        "roles": {"helpful_only": "${stages.base}"},
        "runtime": {"outputs": str(tmp_path / "outputs"), "allow_targets": []},
        "stages": {"base": {**IMPORT, "path": str(model)}, "prompts": PROMPTS, "respond": RESPOND, "unused": RESPOND},
        "report": {"responses": "${stages.respond}"},
    }
    made = OmegaConf.create(tree)
    for key, value in changes.items():
        OmegaConf.update(made, key.replace("__", "."), value)
    return made


def keys(tmp_path: Path, **changes: Any) -> dict[str, str]:
    return {slot: node.key for slot, node in make_plan(config(tmp_path, **changes)).nodes.items()}


def test_edges_are_exact_interpolations_also_behind_a_reference(tmp_path: Path) -> None:
    values = raw_value(config(tmp_path), "stages.respond")
    assert values["policy"] == Edge("base")
    assert values["prompts"] == Edge("prompts")
    assert values["seed"] == 0


def test_a_reference_may_name_an_item_of_a_list() -> None:
    made = OmegaConf.create({"readers": ["${stages.x}", {"count": 3}], "one": "${readers.1}", "edge": "${readers.0}"})
    assert raw_value(made, "one") == {"count": 3}
    assert raw_value(made, "edge") == Edge("x")
    with pytest.raises(UserError, match=r"readers\.2: no such key"):
        raw_value(made, "readers.2")


def test_only_what_the_report_reaches_is_planned_and_upstream_comes_first(tmp_path: Path) -> None:
    assert list(keys(tmp_path)) == ["base", "prompts", "respond"]


def test_a_change_moves_its_stage_and_what_follows(tmp_path: Path) -> None:
    before, after = keys(tmp_path), keys(tmp_path, stages__respond__temperature=0.7)
    assert {slot for slot in before if before[slot] != after[slot]} == {"respond"}
    after = keys(tmp_path, replicate=1)
    assert {slot for slot in before if before[slot] != after[slot]} == {"prompts", "respond"}


def test_outside_files_enter_by_content_and_not_by_path(tmp_path: Path) -> None:
    before = keys(tmp_path)
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "config.json").write_text("{}")
    assert keys(tmp_path, stages__base__path=str(copy)) == before
    (copy / "config.json").write_text('{"changed": 1}')
    assert keys(tmp_path, stages__base__path=str(copy))["base"] != before["base"]


def test_key_order_does_not_matter() -> None:
    assert json_digest({"a": 1, "b": [1, 2]}) == json_digest({"b": [1, 2], "a": 1})
    assert json_digest([1, 2]) != json_digest([2, 1])


@pytest.mark.parametrize(
    ("change", "value", "message"),
    [
        ("stages__respond__prompts", "${stages.promts}", r"no stage 'promts'.*'prompts'"),
        ("stages__respond__prompts", "${stages.base}", r"stages\.respond\.prompts: needs rows/prompt.*makes causal_lm"),
        ("stages__respond__temperature", "hot", r"stages\.respond\.temperature: 'hot' given"),
        ("stages__prompts__readers", "${stages.respond}", r"depends on itself"),
        ("stages__base__path", "/nowhere/at/all", r"stages\.base\.path: no file or folder"),
        ("stages__respond__version", "???", r"stages\.respond\.version: no value"),
        ("stages__respond__policy", "${roles.helpful}", r"roles\.helpful: no such key.*helpful_only"),
    ],
)
def test_mistakes_are_one_clear_line(tmp_path: Path, change: str, value: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        make_plan(config(tmp_path, **{change: value}))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "outputs").exists()


def test_digests_notice_a_change_of_content(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("a")
    digests = Digests(tmp_path / "cache.json")
    first = digests.of(file, "key")
    digests.save()
    assert Digests(tmp_path / "cache.json").of(file, "key") == first
    file.write_text("bb")
    assert Digests(tmp_path / "cache.json").of(file, "key") != first


def pretend(plan: Plan, slot: str, content: str) -> None:
    """An artifact of today's source whose one file holds `content`."""
    node = plan.nodes[slot]
    made_from = {name: plan.store.content(*artifact.split("/")) for name, artifact in upstream(plan, node).items()}
    about = {"code": source_digest(node.recipe), "content": made_from}
    plan.store.build(node.stage, node.key, about, lambda folder: (folder / "file").write_text(content) and None)


def test_what_was_made_from_other_bytes_than_todays_is_stale(tmp_path: Path) -> None:
    plan = make_plan(config(tmp_path))
    for slot in plan.nodes:
        pretend(plan, slot, "first")
    assert [stale(plan, slot) for slot in plan.nodes] == [None, None, None]
    node = plan.nodes["prompts"]
    plan.store.remove(plan.store.path(node.stage, node.key))
    assert stale(plan, "respond") is None
    pretend(plan, "prompts", "second")
    assert stale(plan, "respond") == "prompts made anew since"


def started_from(start: str) -> Plan:
    """The plan of a small run whose reward model starts from `start`."""
    given = [
        f"stages.reward_model.policy={start}",
        f"stages.imported_reward_model.path={microworld.__path__[0]}/weights",
    ]
    return make_plan(compose_config(["experiment=smoke", "runtime.outputs=nowhere", *given]))


@pytest.mark.parametrize("slot", ["base", "imported_reward_model"])
def test_a_parameter_may_take_artifacts_of_two_kinds(slot: str) -> None:
    assert started_from(f"${{stages.{slot}}}").nodes["reward_model"].upstream[0] == slot


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("${stages.human_labels}", "needs causal_lm or reward_model, but stages.human_labels makes rows/label"),
        ("folder", "'folder' given, but a stage that makes causal_lm or reward_model is wanted: ${stages.NAME}"),
    ],
)
def test_an_artifact_of_neither_kind_is_one_line(start: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        started_from(start)
    assert str(error.value) == f"stages.reward_model.policy: {message}"
