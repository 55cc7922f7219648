"""The command line: one clear line for every mistake, nothing written; jobs of a multirun."""

import subprocess
import sys
from pathlib import Path

import pytest

from cai_lightning.experiment.asked import asked
from cai_lightning.experiment.compose import compose_config, jobs
from cai_lightning.experiment.errors import UserError, nearest, one_line
from cai_lightning.experiment.multirun import joint_runs
from cai_lightning.experiment.recipe import Edge, Fixed


def cai(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cai_lightning", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


MISTAKES = [
    (["stages.ppo.klcoef=0.1"], "stages.ppo.kl"),
    (["stages.dpo.optimizer.lr=1e-5x"], "stages.dpo.optimizer.lr: '1e-5x' given"),
    (["experiment=smok"], "'smoke'"),
    (["constitution=microwrld"], "'microworld'"),
    (["model.path=/no/such/folder"], "stages.base.path: no file or folder /no/such/folder"),
    (["stages.revisions.rounds=two"], "stages.revisions.rounds: 'two' given"),
    (["+stages.dpo.loss.bta=1"], "stages.dpo.loss.bta"),
    (["stages.sft.policy=${stages.sfft}"], "'sft'"),
    (["stages.labels.comparisons=${stages.sft}"], "needs rows/comparison, but stages.sft makes causal_lm"),
    (["judge._target_=os.system"], "not allowed"),
    (["help"], "key=value"),
    (["-m", "replicate=0,1", "stages.ppo.clip_range=x,1"], "stages.ppo.clip_range: 'x' given"),
    (["sweeps=none_such"], "sweeps/none_such"),
    (["report._target_=os.system"], "report._target_: 'os.system' is not allowed"),
    (["report.transcripts=many"], "report.transcripts: 'many' given"),
    (
        ["roles.reviser=/some/folder"],
        "stages.revisions.reviser: '/some/folder' given, but a stage that makes causal_lm",
    ),
    (["stages.sft.policy=${..base}"], "a stage is named as exactly ${stages.NAME}"),
    (["stages.ppo.clip_range=nan"], "stages.ppo.clip_range: nan given"),
    (["stages.sft.version=one"], "stages.sft.version: 'one' given"),
    (["stages.sft=3"], "stages.sft: a stage needs _target_ and version"),
    (["stages.pairs.seed=${nosuch}"], "nosuch: no such key"),
    (["experiment=hh_files"], "model.path: no value; set it"),
    (["runtime.on_code_change=rebild"], "runtime.on_code_change: 'rebild' given"),
    (["runtime.threads=0"], "runtime.threads: 0 given"),
    (["runtime.device=gpu"], "runtime.device: 'gpu' given"),
    (["runtime.outputs=/dev/null/here"], "runtime.outputs: cannot write below /dev/null"),
    (["name=../elsewhere"], "name: '../elsewhere' names a folder"),
    (["joint=[rating]"], "'ratings'"),
    (["--mltirun", "replicate=0,1"], "'--multirun'"),
    (["=3"], "no key before the sign"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_line_exit_1_and_nothing_written(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = cai("run", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_command_names_the_nearest(tmp_path: Path) -> None:
    done = cai("rnu", cwd=tmp_path)
    assert (done.returncode, "'run'" in done.stderr) == (1, True)


def test_jobs_are_the_product_of_all_choices() -> None:
    assert jobs(["a=1,2", "b=x", "c=3,4"]) == [
        ["a=1", "b=x", "c=3"],
        ["a=1", "b=x", "c=4"],
        ["a=2", "b=x", "c=3"],
        ["a=2", "b=x", "c=4"],
    ]


def test_an_unknown_key_is_refused_by_struct_mode() -> None:
    with pytest.raises(UserError):
        compose_config(["stages.ppo.nothing_like_it=1"])


def test_nearest_says_nothing_about_what_is_far() -> None:
    assert nearest("zzzz", ["alpha"]) == ""
    assert nearest("alhpa", ["alpha"]) == " Did you mean 'alpha'?"


def test_a_joint_stage_names_variants_only_where_players_differ() -> None:
    single = [{"replicate": 0, "verdicts": {"sl_cai": Edge("v_sl"), "ppo": Edge("v_ppo")}}]
    facts = [
        {"replicate": 0, "keys": {"v_sl": "verdicts/s", "v_ppo": "verdicts/p1"}},
        {"replicate": 0, "keys": {"v_sl": "verdicts/s", "v_ppo": "verdicts/p2"}},
    ]
    assert joint_runs(single, facts, ["kl=1", "kl=2"]) == [
        {"replicate": 0, "verdicts": {"sl_cai": Fixed("verdicts", "s"), "ppo [kl=1]": Fixed("verdicts", "p1")}},
        {"replicate": 0, "verdicts": {"sl_cai": Fixed("verdicts", "s"), "ppo [kl=2]": Fixed("verdicts", "p2")}},
    ]


def test_replicates_alone_keep_the_players_names() -> None:
    single = [{"replicate": 0, "verdicts": {"ppo": Edge("v")}, "labels": Edge("l")}]
    facts = [{"replicate": r, "keys": {"v": f"verdicts/{r}", "l": "label/same"}} for r in (0, 1)]
    assert [run["verdicts"] for run in joint_runs(single, facts, ["", ""])] == [
        {"ppo": Fixed("verdicts", "0")},
        {"ppo": Fixed("verdicts", "1")},
    ]


def test_a_plan_shows_what_would_be_built_at_which_price(tmp_path: Path) -> None:
    done = cai("plan", "experiment=smoke", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 120
    (revisions,) = (line.split() for line in lines if " revisions " in line)
    # 12 red-team prompts, 2 rounds: 24 rows of two calls each
    assert revisions[:3] == ["7", "build", "revisions"]
    assert revisions[4:6] == ["24", "48"]
    assert revisions[-3:] == ["<-", "1", "6"]
    assert lines[-1].startswith("33 results: 0 exist, 33 to build: about ")
    assert list(tmp_path.iterdir()) == []


def test_flags_may_stand_anywhere() -> None:
    found = asked(["experiment=smoke", "-m", "replicate=0,1"])
    assert found.arguments == ["-m", "experiment=smoke", "replicate=0,1"]
    assert found.jobs == [["experiment=smoke", "replicate=0"], ["experiment=smoke", "replicate=1"]]


def test_what_the_command_line_says_of_a_sweeps_axis_counts() -> None:
    found = asked(["sweeps=kl_coef", "stages.ppo.kl.kl_coef=0.1", "replicate=0,1"])
    given = {"sweeps=kl_coef", "stages.ppo.kl.kl_coef=0.1"}
    assert [set(job) for job in found.jobs] == [{*given, "replicate=0"}, {*given, "replicate=1"}]
    assert asked(["sweeps=kl_coef", "hydra.mode=RUN"]).hydra is None


def test_points_that_nobody_knows_beforehand_are_priced_at_two_corners(tmp_path: Path) -> None:
    done = cai("plan", "sweeps=search", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    # PPO, its answers, its verdicts and the ratings
    assert "16 points are not known beforehand; each further one builds 4 results anew" in last
    assert done.stdout.count(" reward_model ") == 1


def test_errors_are_one_line_with_place_and_path() -> None:
    full = OSError(28, "No space left on device", "/data/rows.new")
    full.add_note("stages.sft")
    assert one_line(full) == "stages.sft: /data/rows.new: No space left on device"
    assert one_line(KeyError("x")) == "KeyError: 'x'"
    assert one_line(ValueError("two\nlines")) == "two lines"
