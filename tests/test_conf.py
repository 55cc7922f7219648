"""conf/ and code say the same: targets exist, names fit, nothing is unread, every leaf is part of a key."""

import copy
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from cai_lightning.experiment.compose import CONF, ROOT, compose_config
from cai_lightning.experiment.pipeline import make_plan
from cai_lightning.experiment.recipe import Edge, edges
from cai_lightning.experiment.signatures import signature
from cai_lightning.experiment.targets import RESERVED

YAML = sorted([*CONF.rglob("*.yaml"), *(ROOT / "sweeps").rglob("*.yaml")])
EXPERIMENTS = [path.stem for path in sorted((CONF / "experiment").glob("*.yaml"))]
# what an experiment cannot know: where a user's files lie
NEEDS: dict[str, list[str]] = {"hh_files": ["model.path=conf", "data.root=conf"]}


def nodes(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        return ([value] if "_target_" in value else []) + [n for item in value.values() for n in nodes(item)]
    if isinstance(value, list):
        return [node for item in value for node in nodes(item)]
    return []


@pytest.mark.parametrize("path", YAML, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_target_exists_and_its_keys_are_parameters(path: Path) -> None:
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    if path.parts[-2] in ("job_logging", "hydra_logging"):
        return
    for node in nodes(content):
        if node["_target_"].startswith("cai_lightning.") and "experiment.multirun" not in node["_target_"]:
            wanted = signature(node["_target_"]).parameters
            assert set(node) - {*RESERVED, "defaults"} <= set(wanted), f"{path}: {node['_target_']}"


def test_every_parameter_of_a_stage_is_spelt_out_in_its_yaml() -> None:
    plan = make_plan(compose_config(["runtime.outputs=nowhere"]))
    for slot, node in plan.nodes.items():
        wanted = set(signature(node.target).parameters) - {"out"}
        assert wanted == set(node.values) - set(RESERVED), slot
        assert set(signature(node.target).required) - {"out"} == wanted, f"{slot}: a default in code"


def test_every_nested_target_spells_out_its_parameters() -> None:
    plan = make_plan(compose_config(["runtime.outputs=nowhere"]))
    for slot, node in plan.nodes.items():
        for nested in nodes(node.values):
            if nested.get("_partial_") or nested is node.values:
                continue
            missing = set(signature(nested["_target_"]).required) - set(nested)
            assert not missing, f"{slot}: {nested['_target_']} lacks {missing}"


def leaves(config: Any, prefix: str) -> list[str]:
    if isinstance(config, dict):
        return [leaf for key, value in config.items() for leaf in leaves(value, f"{prefix}.{key}")]
    return [] if isinstance(config, list | Edge) else [prefix]


def own(raw: Any, leaf: str) -> bool:
    """Whether the leaf stands under its stage itself, and not behind a reference to a shared node."""
    for part in leaf.split("."):
        if not isinstance(raw, dict):
            return False
        raw = raw[part]
    return True


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return None


def test_changing_any_number_of_a_stage_changes_its_key_and_only_what_follows() -> None:
    config = compose_config(["runtime.outputs=nowhere"])
    raw = OmegaConf.to_container(config, resolve=False)
    plan = make_plan(config)
    for slot, node in plan.nodes.items():
        for leaf in leaves(node.values, f"stages.{slot}"):
            if not own(raw, leaf):
                continue
            before = OmegaConf.select(config, leaf)
            if changed(before) is None or leaf.endswith(("version", "_partial_")):
                continue
            other = copy.deepcopy(config)
            OmegaConf.update(other, leaf, changed(before))
            again = make_plan(other)
            follows = downstream(plan, slot)
            moved = {name for name in plan.nodes if plan.nodes[name].key != again.nodes[name].key}
            assert slot in moved, leaf
            # what another stage takes over: the reference computes as the preference loss does
            shared = {f"stages.dpo.{leaf}" for leaf in ("fit.precision", "data.batch_tokens", "data.multiple")}
            shared.add("stages.reward_model.fit.precision")
            assert moved <= follows or leaf in shared, f"{leaf} moved {moved - follows}"


def downstream(plan: Any, slot: str) -> set[str]:
    found = {slot}
    for name, node in plan.nodes.items():
        if found & set(node.upstream):
            found.add(name)
    return found


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_plans(name: str) -> None:
    config = compose_config([f"experiment={name}", "runtime.outputs=nowhere", *NEEDS.get(name, [])])
    assert isinstance(config, DictConfig)
    if name not in NEEDS:
        assert make_plan(config).nodes


def test_nothing_under_runtime_is_hashed() -> None:
    one = make_plan(compose_config(["runtime.outputs=nowhere"]))
    two = make_plan(
        compose_config(["runtime.outputs=elsewhere", "runtime.threads=2", "runtime.wandb.mode=disabled", "name=other"])
    )
    assert {s: n.key for s, n in one.nodes.items()} == {s: n.key for s, n in two.nodes.items()}


def test_replicate_reseeds_everything_but_the_outside_and_the_evaluation_prompts() -> None:
    one = make_plan(compose_config(["runtime.outputs=nowhere"]))
    two = make_plan(compose_config(["runtime.outputs=nowhere", "replicate=1"]))
    same = {slot for slot in one.nodes if one.nodes[slot].key == two.nodes[slot].key}
    assert same == {"base", "eval_prompts", "reward_test_helpful", "reward_test_harmless"}


def test_a_sweep_over_kl_coef_moves_only_ppo_and_what_follows() -> None:
    one = make_plan(compose_config(["runtime.outputs=nowhere"]))
    two = make_plan(compose_config(["runtime.outputs=nowhere", "stages.ppo.kl.kl_coef=0.05"]))
    moved = {slot for slot in one.nodes if one.nodes[slot].key != two.nodes[slot].key}
    assert moved == {"ppo", "answers_ppo", "verdicts_ppo", "ratings"}


def test_the_report_reaches_every_stage_of_the_config() -> None:
    config = compose_config(["runtime.outputs=nowhere"])
    assert set(config.stages) - set(make_plan(config).nodes) == {"multiple_choice"}  # the micro-world has no such file


def test_edges_are_found_in_lists_and_mappings() -> None:
    assert edges({"a": [Edge("x"), {"b": Edge("y")}], "c": Edge("x")}) == ["x", "y"]
