"""The baselines differ from RL-CAI in what they are said to differ in, and in nothing else."""

from typing import Any

import pytest

from cai_lightning.experiment.compose import compose_config
from cai_lightning.experiment.pipeline import Plan, make_plan
from cai_lightning.experiment.recipe import Edge, edges

PLAYERS = {
    "rlhf_helpful": ("base", "reward_model_helpful", "helpful_rl_prompts"),
    "rlhf_hh": ("base", "reward_model_hh", "rl_prompts"),
    "ppo": ("sft", "reward_model", "rl_prompts"),
    "ppo_cot": ("sft", "reward_model_cot", "rl_prompts"),
}
HUMAN = {"annotated": Edge("annotations"), "human": Edge("human_labels")}
LABELS = {
    "reward_model_helpful": HUMAN,
    "reward_model_hh": HUMAN | {"harmless": Edge("harmless_annotations")},
    "reward_model": HUMAN | {"ai": Edge("labels")},
    "reward_model_cot": HUMAN | {"ai": Edge("labels_cot")},
}

ALIKE = {"ppo": PLAYERS, "reward_model": LABELS, "answers_ppo": [f"answers_{player}" for player in PLAYERS]}


def plan(*overrides: str) -> Plan:
    return make_plan(compose_config(["experiment=baselines", "runtime.outputs=nowhere", *overrides]))


def moved(one: Plan, other: Plan) -> set[str]:
    return {slot for slot in one.nodes if one.nodes[slot].key != other.nodes[slot].key}


def without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


@pytest.fixture(scope="module")
def usual() -> Plan:
    return plan()


def test_players_start_where_the_paper_starts_them(usual: Plan) -> None:
    for slot, upstream in PLAYERS.items():
        values = usual.nodes[slot].values
        assert tuple(values[name].slot for name in ("policy", "reward_model", "prompts")) == upstream


def test_all_arms_have_the_same_human_labels_of_helpfulness(usual: Plan) -> None:
    assert {slot: usual.nodes[slot].values["labels"] for slot in LABELS} == LABELS


def test_settings_are_those_of_rl_cai_whatever_they_are() -> None:
    odd = ["stages.ppo.rollouts=192", "kl@stages.ppo.kl=adaptive", "scaling@stages.ppo.scaling=raw"]
    odd += ["stages.reward_model.gain=3.0", "stages.reward_model.fit.epochs=5", "stages.reward_model.mean=false"]
    odd += ["adapter@stages.ppo.adapter=lora", "stages.answers_ppo.temperature=0.5", "stages.ppo.fit.accumulate=2"]
    given = plan(*odd)
    own = {"ppo": ("policy", "reward_model", "prompts"), "answers_ppo": ("policy", "player")}
    own["reward_model"] = ("policy", "labels", "limits", "weights")
    for kind, names in own.items():
        for slot in ALIKE[kind]:
            assert without(given.nodes[slot].values, *names) == without(given.nodes[kind].values, *names), slot


def test_a_setting_of_rl_cai_moves_every_player_that_rl_made(usual: Plan) -> None:
    assert set(PLAYERS) <= moved(usual, plan("stages.ppo.kl.kl_coef=0.07"))


def test_labels_that_punish_evasion_move_one_player_alone(usual: Plan) -> None:
    control = plan("humans.punish_evasion=true")
    chain = {"harmless_annotations", "reward_model_hh", "rlhf_hh", "answers_rlhf_hh", "verdicts_rlhf_hh", "ratings"}
    assert moved(usual, control) == chain


def test_thoughts_are_clamped_and_differ_from_labels_at_once_in_nothing_else(usual: Plan) -> None:
    at_once, thought = (usual.nodes[slot].values for slot in ("labels", "labels_cot"))
    own = ("reasoning_samples", "thought_tokens", "clamp")
    assert without(thought, *own) == without(at_once, *own)
    assert (thought["reasoning_samples"], thought["clamp"]) == (1, [0.4, 0.6])  # Bai et al. 2022, sec. 4.3


def test_each_pair_of_players_is_judged_once(usual: Plan) -> None:
    (run,) = usual.nodes["ratings"].values["runs"]
    judged = [usual.nodes[edge.slot].values for edge in run["verdicts"].values()]
    pairs = [frozenset((values["answers"].slot, edge.slot)) for values in judged for edge in values["opponents"]]
    assert len(judged) == 7
    assert len(pairs) == len(set(pairs)) == 7 * 6 // 2


def test_human_labels_of_files_are_helpful_base_for_all_and_harmless_base_for_one() -> None:
    given = compose_config(["experiment=[qwen2_0_5b,baselines]", "runtime.outputs=nowhere"])
    nodes = make_plan(given).nodes
    human = {"human": Edge("human_labels")}
    assert nodes["reward_model_helpful"].values["labels"] == human
    assert nodes["reward_model_hh"].values["labels"] == human | {"harmless": Edge("harmless_annotations")}
    assert nodes["reward_model"].values["labels"] == human | {"ai": Edge("labels")}
    assert nodes["reward_model_cot"].values["labels"] == human | {"ai": Edge("labels_cot")}
    folders = {
        slot: nodes[slot].values["readers"][0]["table"]["folder"] for slot in ("human_labels", "harmless_annotations")
    }
    assert folders == {"human_labels": "helpful-base", "harmless_annotations": "harmless-base"}
    assert "harmless_comparisons" not in nodes
    assert edges(nodes["rlhf_hh"].values) == ["base", "reward_model_hh", "rl_prompts"]


def test_windows_of_harmless_base_do_not_overlap() -> None:
    given = compose_config(["experiment=[qwen2_0_5b,baselines]", "runtime.outputs=nowhere"])
    counts, (reader,) = given.data.counts, given.data.harmless_labels
    asked = [given.data.rl[0].skip + counts.rl, counts.red_team + counts.pairs]
    assert reader["skip"] >= max(asked)
    assert reader["skip"] + reader["limit"] <= 42_537  # rows of harmless-base's training split


def test_wins_at_equal_length_are_of_all_players_that_are_rated() -> None:
    given = plan("+report.tables.length=${stages.length}")
    ((rated,), (measured,)) = (given.nodes[slot].values["runs"] for slot in ("ratings", "length"))
    assert set(rated["verdicts"]) >= set(PLAYERS)
    assert measured["verdicts"] == rated["verdicts"]
    assert measured["answers"] == {name: Edge(f"answers_{name}") for name in rated["verdicts"]}
