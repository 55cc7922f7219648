"""The end of a multirun: joint nodes over all jobs, and what sets the jobs apart."""

from pathlib import Path
from typing import Any

import pytest

from cai_lightning.experiment.compose import compose_config
from cai_lightning.experiment.errors import UserError
from cai_lightning.experiment.inspection import collect_garbage
from cai_lightning.experiment.multirun import alike, apart_in_mappings, pool, variants, without
from cai_lightning.experiment.pipeline import Plan, make_plan, upstream
from cai_lightning.experiment.recipe import Edge
from cai_lightning.experiment.run import NAMES, RUN, joint_digest, write_json


def planned(outputs: Path, *overrides: str) -> Plan:
    return make_plan(compose_config(["experiment=smoke", f"runtime.outputs={outputs}", *overrides]))


def test_joint_nodes_of_the_real_pipeline_name_all_that_they_are_made_from(tmp_path: Path) -> None:
    plans = [planned(tmp_path, f"stages.ppo.kl.kl_coef={value}") for value in (0.1, 0.2)]
    facts: list[dict[str, Any]] = [{"replicate": 0, "keys": plan.names()} for plan in plans]
    slots = ["ratings", "calibration", "reward_accuracy"]
    pool(plans[0], slots, facts, ["kl_coef=0.1", "kl_coef=0.2"], ())
    ratings = plans[0].nodes["ratings"]
    made_from = upstream(plans[0], ratings)
    assert made_from["runs.0.verdicts.ppo [kl_coef=0.1]"] == facts[0]["keys"]["verdicts_ppo"]
    assert made_from["runs.1.verdicts.ppo [kl_coef=0.2]"] == facts[1]["keys"]["verdicts_ppo"]
    assert made_from["runs.1.verdicts.sl_cai"] == facts[0]["keys"]["verdicts_sl_cai"]
    accuracy = upstream(plans[0], plans[0].nodes["reward_accuracy"])
    assert set(accuracy) == {"reward_test_helpful", "reward_test_harmless", "runs.0.reward_model"}


def test_a_joint_report_has_each_jobs_own_table_where_they_differ(tmp_path: Path) -> None:
    plans = [planned(tmp_path, f"stages.ppo.kl.kl_coef={value}") for value in (0.1, 0.2)]
    tables = {"sl": Edge("verdicts_sl_cai"), "rl": Edge("verdicts_ppo"), "all": Edge("ratings")}
    plans[0].report["tables"] = tables
    facts: list[dict[str, Any]] = [{"replicate": 0, "keys": plan.names()} for plan in plans]
    found = apart_in_mappings(plans[0], ["ratings"], facts, ["kl_coef=0.1", "kl_coef=0.2"]).report["tables"]
    assert set(found) == {"sl", "rl [kl_coef=0.1]", "rl [kl_coef=0.2]", "all"}
    assert found["rl [kl_coef=0.2]"].name == plans[1].names()["verdicts_ppo"]


def test_stages_are_pooled_only_where_all_but_their_runs_agrees(tmp_path: Path) -> None:
    one, reseeded = planned(tmp_path), planned(tmp_path, "replicate=1")
    assert joint_digest(one, "ratings") == joint_digest(reseeded, "ratings")
    other = planned(tmp_path, "stages.ratings.prior_sd=1.0")
    assert joint_digest(one, "ratings") != joint_digest(other, "ratings")


def test_davidson_s_ratings_are_another_result_in_the_same_folder_and_move_no_other(tmp_path: Path) -> None:
    one, other = planned(tmp_path), planned(tmp_path, "stage/ratings@stages.ratings=davidson")
    moved = {slot for slot, name in one.names().items() if other.names()[slot] != name}
    assert moved == {"ratings"} and other.names()["ratings"].startswith("ratings/")
    assert joint_digest(one, "ratings") != joint_digest(other, "ratings")


def test_variants_are_the_overrides_that_not_all_jobs_have(tmp_path: Path) -> None:
    jobs = []
    for number, text in enumerate(("0.05", "0.2")):
        job = tmp_path / str(number)
        (job / ".hydra").mkdir(parents=True)
        lines = ["experiment=smoke", f"stages.ppo.kl.kl_coef={text}", f"replicate={number}", "stages.sft.seed=1"]
        (job / ".hydra" / "overrides.yaml").write_text("".join(f"- {line}\n" for line in lines))
        jobs.append(job)
    assert variants(jobs) == ["kl_coef=0.05", "kl_coef=0.2"]
    assert variants(jobs[:1]) == [""]


def test_garbage_is_what_no_run_names_whether_finished_or_under_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("finished", "begun", "swept", "joint", "nobodys", "nobodys.partial", "begun2.partial"):
        (tmp_path / "store" / "sft" / key).mkdir(parents=True)
        (tmp_path / "store" / "sft" / key / "manifest.json").write_text('{"files": {}}')
    named = {
        "runs/a/" + RUN: {"keys": {"x": "sft/finished"}},
        "runs/b/" + NAMES: {"x": "sft/begun", "y": "sft/begun2"},
        "sweeps/c/0/" + RUN: {"keys": {"x": "sft/swept"}},
        "sweeps/c/" + RUN: {"keys": {"x": "sft/joint"}},
    }
    for name, facts in named.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_json(tmp_path / name, facts)
    collect_garbage(tmp_path, really=False)
    assert capsys.readouterr().out.count("would remove") == 2
    collect_garbage(tmp_path, really=True)
    left = {path.name for path in (tmp_path / "store" / "sft").iterdir()}
    assert left == {"finished", "begun", "swept", "joint", "begun2.partial"}


def test_a_joint_summary_goes_on_without_a_stage_that_differs_if_the_report_can(tmp_path: Path) -> None:
    facts = [{"joint": {"ratings": "r", "calibration": value}} for value in ("one", "two")]
    slots, apart = alike(facts)
    assert (slots, apart) == (["ratings"], ["calibration"])
    plan = planned(tmp_path)
    assert without(plan, apart, ()).report["calibration"] is None
    assert plan.report["calibration"] is not None
    with pytest.raises(UserError, match=r"report\.ratings: None given"):
        without(plan, ["ratings"], ())
