"""conf/ and code say the same: targets exist, names fit, nothing is unread, every leaf is part of a key."""

import copy
import functools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cai_lightning.experiment.compose import CONF, PACKAGE, ROOT, compose_config
from cai_lightning.experiment.estimates import GIB, estimates
from cai_lightning.experiment.pipeline import Plan, make_plan
from cai_lightning.experiment.recipe import Edge, edges
from cai_lightning.experiment.signatures import signature
from cai_lightning.experiment.targets import RESERVED

YAML = sorted([*CONF.rglob("*.yaml"), *(ROOT / "sweeps").rglob("*.yaml")])
EXPERIMENTS = [path.stem for path in sorted((CONF / "experiment").glob("*.yaml"))]
# what an experiment cannot know: where a user's files lie, and which commit of a data set is meant
LOCAL = [f"model.path={PACKAGE / 'microworld' / 'weights' / 'small'}", "data.root={files}"]
NEEDS: dict[str, list[str]] = {
    "hh_files": LOCAL,
    "hh_chat": LOCAL,
    "hh_files_baselines": LOCAL,
    "hh_reward": LOCAL[1:],
    "paper_faithful": LOCAL[1:],
    "public_evals": LOCAL[1:],
    "safety_sets": [f"data.safety_file={Path(__file__)}"],
    "hf_cai_2024": [f"data.revision={40 * '0'}"],
    "reward=imported": [f"reward.path={PACKAGE / 'microworld' / 'weights' / 'small'}"],
    "mistral_reproduction": [f"data.revision={40 * '0'}"],
    "kto_ratings": [f"data.rating_file={Path(__file__)}"],
}
# an experiment that stands on top of another
UNDER = {
    "public_evals": "qwen2_0_5b",
    "safety_sets": "qwen2_0_5b",
    "kto_ratings": "kto",
}
# GiB of one GPU that a preset is for; libraries take some beside what a plan counts
ROOM = {
    "qwen2_0_5b": 16,
    "mistral7b_24gb": 24,
    "mistral7b_80gb": 80,
    "llama3_8b_8gpu": 80,
    "hh_hub": math.inf,  # what the others are made from: it names no machine
    "hf_cai_2024": 80,
    "nemo_cai": 80,
    "mistral_reproduction": 80,
    "paper_faithful": 80,
}
LIBRARIES = 0.5
LEARNING = ("pretrain", "sft", "reward_model", "dpo", "ppo")
WHOLE = ("hf_cai_2024",)  # reads public data sets to their ends, so nobody knows their rows before
# slots that the micro-world's run does not need, and a run that does
ELSEWHERE = {
    "first_text": "experiment=base",
    "assistant": "experiment=hh_hub",
    "kto": "experiment=kto",
    "imported_reward_model": "reward=imported",
    "reviser": "roles=four",
    "feedback_model": "roles=four",
    "multiple_choice": "experiment=hh_files",
    "multiple_choice_thoughts": "experiment=hh_files",
    "baseline": "experiment=hh_files",
    "surface": "experiment=hh_files",
    "plain_text": "experiment=hh_files",
    "findings": "sweeps=revisions",
    "harmless_comparisons": "experiment=baselines",
    "harmless_annotations": "experiment=baselines",
    "random_annotations": "sweeps=revisions",
    "probes": "experiment=hh_files",
    "length": "experiment=hh_files",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the names and shapes of the released files and nothing of theirs: what a plan looks at."""
    root = tmp_path_factory.mktemp("files")
    evals, prompts = root / "anthropic_cai" / "evals", root / "anthropic_cai" / "prompts"
    empty = [evals / f"{name}.jsonl" for name in ("438HHHEvaluations", "HarmfulVsEthical", "HarmfulnessClassification")]
    empty += [root / "hh-rlhf" / f"harmless-base.{split}.jsonl.gz" for split in ("train", "test")]
    empty.append(root / "hh-rlhf" / "helpful-base.train.jsonl.gz")
    for path in (*empty, root / "anthropic_cai" / "samples" / "MODEL.jsonl", prompts / "none"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    asked, thought = "\n\nHuman: Hello?\n\nAssistant:", "\n\nAssistant: Let's think step by step:"
    revising = {
        "prompt": "\n\nCritiqueRequest: What is wrong?\n\nCritique:",
        "edit_request": "\n\nRevisionRequest: Better.\n\nRevision:",
    }
    contents: dict[str, Any] = {
        "CritiqueRevisionInstructions": {"harmful0": revising},
        "CritiqueRevisionFewShotPrompts": [
            f"{asked} Hi.{revising['prompt']} It is short.{revising['edit_request']} Hello!"
        ],
        "RLMadisonInstructions": ["Which is better?"],
        "RLMadisonFewShotPrompts": [{"prompt": asked, "corrects": "Hello!", "incorrects": "Go."}],
        "RLMadisonPrecogFewShotPrompts": [
            {"prompt": f"\n\nHuman: Which? {{}}{thought} A.\n\nHuman:\nSo the answer is: (A)"}
        ],
    }
    for name, content in contents.items():
        (prompts / f"{name}.json").write_text(json.dumps(content))
    return root


def experiment(name: str) -> str:
    """The override that chooses an experiment, the one below it first."""
    return f"experiment=[{UNDER[name]},{name}]" if name in UNDER else f"experiment={name}"


@functools.cache
def plan_of(files: Path, *overrides: str) -> Plan:
    """The plan of a run with these overrides, the files of its experiment given."""
    needs = [need for name, given in NEEDS.items() for need in given if {name, experiment(name)} & {*overrides}]
    return make_plan(
        compose_config([*overrides, *(need.format(files=files) for need in needs), f"runtime.outputs={files / 'none'}"])
    )


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


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_parameter_of_a_stage_is_spelt_out_in_its_yaml(files: Path, name: str) -> None:
    for slot, node in plan_of(files, experiment(name)).nodes.items():
        wanted = set(signature(node.target).parameters) - {"out"}
        assert wanted == set(node.values) - set(RESERVED), slot
        assert set(signature(node.target).required) - {"out"} == wanted, f"{slot}: a default in code"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_nested_target_spells_out_its_parameters(files: Path, name: str) -> None:
    for slot, node in plan_of(files, experiment(name)).nodes.items():
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
            taken = ("fit.precision", "max_tokens", "data.batch_tokens", "data.share", "data.plan.multiple")
            shared = {"stages.reward_model.fit.precision", *(f"stages.dpo.{leaf}" for leaf in taken)}
            assert moved <= follows or leaf in shared, f"{leaf} moved {moved - follows}"


def downstream(plan: Any, slot: str) -> set[str]:
    found = {slot}
    for name, node in plan.nodes.items():
        if found & set(node.upstream):
            found.add(name)
    return found


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_makes_a_plan(files: Path, name: str) -> None:
    assert plan_of(files, experiment(name)).nodes


@pytest.mark.parametrize(("name", "room"), ROOM.items())
def test_a_preset_knows_its_price_without_model_or_data(files: Path, name: str, room: float) -> None:
    plan = plan_of(files, experiment(name))
    costs = estimates(plan)
    learning = {slot for slot, node in plan.nodes.items() if node.stage in LEARNING}
    assert {"sft", "dpo"} <= learning
    for slot in learning:
        assert 0 < costs[slot].memory < math.inf, slot
        assert math.isfinite(costs[slot].tokens) == (name not in WHOLE), slot
    needed = {slot: cost.memory / GIB for slot, cost in costs.items()}
    assert max(needed.values()) + LIBRARIES < room, needed
    assert all(map(math.isfinite, needed.values())), needed


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_batch_holds_the_longest_row_that_its_stage_allows(files: Path, name: str) -> None:
    """Or the stage ends with an error that names a row, hours after the run began."""
    for slot, node in plan_of(files, experiment(name)).nodes.items():
        data, longest = node.values.get("data"), node.values.get("max_tokens")
        if longest is None or not isinstance(data, dict) or "batch_tokens" not in data:
            continue
        # of a pair whose prompt is short each reply may be nearly as long as a text
        texts = 2 if "share" in data else 1
        assert texts * longest <= data["batch_tokens"], slot


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


def test_a_reference_that_is_made_batch_by_batch_needs_no_stage() -> None:
    one = make_plan(compose_config(["runtime.outputs=nowhere"]))
    two = make_plan(compose_config(["runtime.outputs=nowhere", "stages.dpo.reference=null"]))
    assert set(one.nodes) - set(two.nodes) == {"reference"}


def test_the_report_reaches_every_stage_of_the_config(files: Path) -> None:
    plan = plan_of(files)
    assert set(compose_config([]).stages) - set(plan.nodes) == set(ELSEWHERE)
    for slot, run in ELSEWHERE.items():
        assert slot in plan_of(files, run).nodes, f"{slot}: not reached by {run}"


def test_edges_are_found_in_lists_and_mappings() -> None:
    assert edges({"a": [Edge("x"), {"b": Edge("y")}], "c": Edge("x")}) == ["x", "y"]
