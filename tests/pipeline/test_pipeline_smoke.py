"""The whole pipeline through the command line, on a minute world: built, reused, swept, killed, raced."""

import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.text.records import Label, Response, Revision, read_rows

SMOKE = ["experiment=smoke", "runtime.progress=off"]


def command(outputs: Path, *extra: str) -> list[str]:
    return [sys.executable, "-m", "cai_lightning", "run", *SMOKE, f"runtime.outputs={outputs}", *extra]


def cai(outputs: Path, *extra: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(outputs, *extra), capture_output=True, text=True, check=False, cwd=outputs.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def facts(outputs: Path) -> Any:
    return json.loads((outputs / "latest" / "run.json").read_text())


def built(run: Any) -> set[str]:
    return {slot for slot, seeds in run["stages"].items() for fact in seeds.values() if not fact["reused"]}


def contents(store: Path) -> dict[str, bytes]:
    files = [path for path in store.rglob("*") if path.is_file() and ".locks" not in path.parts]
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in files
        if path.name not in ("timing.json", ".digests.json")
    }


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The outputs of one complete smoke run."""
    outputs = tmp_path_factory.mktemp("smoke") / "outputs"
    cai(outputs)
    yield outputs


def test_a_run_leaves_summary_report_figures_config_and_metrics(first: Path) -> None:
    folder = first / "latest"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["schema"] == 1
    assert set(summary["players"]) == {"helpful_only", "sl_cai", "dpo", "ppo"}
    for player in summary["players"].values():
        for metric in ("helpful_elo", "harmless_elo", "harmful_rate", "helpfulness", "evasive_rate"):
            assert set(player[metric]) == {"value", "low", "high", "n"}
    assert summary["players"]["helpful_only"]["harmless_elo"]["value"] == 0
    assert set(summary["stages"]) == set(facts(first)["keys"])
    page = (folder / "report.html").read_text()
    assert "<script src" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert (folder / "figures" / "frontier.png").read_bytes()[:4] == b"\x89PNG"
    stages = {json.loads(line)["stage"] for line in (folder / "metrics.jsonl").read_text().splitlines()}
    assert {"sft", "reward_model", "dpo", "ppo"} <= stages


def test_a_second_run_builds_nothing_and_changes_nothing(first: Path) -> None:
    before = contents(first / "store")
    cai(first)
    assert built(facts(first)) == set()
    assert contents(first / "store") == before


def test_nothing_half_written_and_no_clock_in_the_store(first: Path) -> None:
    assert not list((first / "store").rglob("*.partial"))
    assert not list((first / "store").rglob("chunks"))
    for path in (first / "store").rglob("manifest.json"):
        assert str(first) not in path.read_text()


def test_two_fresh_runs_have_the_same_bytes(first: Path, tmp_path: Path) -> None:
    cai(tmp_path / "outputs", "runtime.threads=1")
    assert contents(tmp_path / "outputs" / "store") == contents(first / "store")


def test_a_sweep_builds_only_what_it_changes_and_ends_in_one_joint_summary(first: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(first / "store", outputs / "store")
    cai(outputs, "-m", "stages.ppo.kl.kl_coef=0.05,0.1")
    (sweep,) = (outputs / "sweeps").iterdir()
    for job in ("0", "1"):
        run = json.loads((sweep / job / "run.json").read_text())
        assert built(run) == {"ppo", "answers_ppo", "verdicts_ppo", "ratings"}
    players = set(json.loads((sweep / "summary.json").read_text())["players"])
    assert players == {"helpful_only", "sl_cai", "dpo", "ppo [kl_coef=0.05]", "ppo [kl_coef=0.1]"}
    assert (outputs / "latest").resolve() == sweep.resolve()


@pytest.mark.slow
def test_jobs_of_a_multirun_may_be_several_processes_each(first: Path, tmp_path: Path) -> None:
    """PPO in two processes (gloo), two points: the collection is that of one process, so the players are near."""
    outputs = tmp_path / "outputs"
    shutil.copytree(first / "store", outputs / "store")
    cai(outputs, "-m", "stages.ppo.kl.kl_coef=0.05,0.1", "stages.ppo.fit.devices=2")
    (sweep,) = (outputs / "sweeps").iterdir()
    for job in ("0", "1"):
        run = json.loads((sweep / job / "run.json").read_text())
        assert built(run) == {"ppo", "answers_ppo", "verdicts_ppo", "ratings"}
    assert len(json.loads((sweep / "summary.json").read_text())["players"]) == 5
    assert not list((outputs / "store").rglob("*.partial"))


def test_experiments_of_different_names_end_in_one_joint_summary(first: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(first / "store", outputs / "store")
    cai(outputs, "-m", "experiment=[smoke,all_principles],[smoke,general_principles]")
    (sweep,) = (outputs / "sweeps").iterdir()
    assert sweep.name.endswith("-multirun")
    summary = json.loads((sweep / "summary.json").read_text())
    assert summary["experiment"] == "all_principles + general_principles"
    assert len(summary["players"]) == 7  # the anchor, and three players of either constitution


def test_replicates_end_in_one_joint_summary_over_seeds(first: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(first / "store", outputs / "store")
    cai(outputs, "-m", "replicate=0,1")
    (sweep,) = (outputs / "sweeps").iterdir()
    summary = json.loads((sweep / "summary.json").read_text())
    assert summary["seeds"] == [0, 1]
    assert set(summary["players"]) == {"helpful_only", "sl_cai", "dpo", "ppo"}
    assert set(summary["stages"]["sft"]) == {"0", "1"}
    assert built(json.loads((sweep / "0" / "run.json").read_text())) == set()


def example(first: Path, outputs: Path, name: str, *extra: str) -> Any:
    """The facts of an example experiment of smoke size, in a copy of the store, and a reader of its rows."""
    shutil.copytree(first / "store", outputs / "store")
    cai(outputs, f"experiment=[smoke,{name}]", *extra)
    run = facts(outputs)
    return run, lambda slot, record: read_rows(outputs / "store" / run["keys"][slot], record)


# what learns from labels, and what comes after that
LEARNT = {"reference", "dpo", "reward_model", "ppo", "answers_dpo", "answers_ppo", "verdicts_dpo", "verdicts_ppo"}
LEARNT |= {"ratings", "reward_accuracy"}


def test_revisions_against_first_replies_are_one_more_source_of_pairs(first: Path, tmp_path: Path) -> None:
    run, rows = example(first, tmp_path / "outputs", "revision_pairs")
    assert built(run) == {"revision_pairs", *LEARNT}
    replies = {row.id: row.text for row in rows("red_team_responses", Response)}
    last = {row.prompt.id: row.text for row in rows("revisions", Revision) if row.round == 2}
    pairs = rows("revision_pairs", Label)
    assert 0 < len(pairs) == sum(last[id] != text for id, text in replies.items())
    assert all((row.a, row.b, row.p_a) == (last[row.prompt.id], replies[row.prompt.id], 1) for row in pairs)
    sources = ("labels", "annotations", "human_labels", "revision_pairs")
    counts = json.loads((tmp_path / "outputs" / "store" / run["keys"]["reward_model"] / "counts.json").read_text())
    assert sum(counts[name] for name in ("kept", "too_long", "identical", "weightless")) == sum(
        len(rows(slot, Label)) for slot in sources
    )


def test_baselines_stand_beside_rl_cai(first: Path, tmp_path: Path) -> None:
    fewer = ("data.harmless_comparisons.0.count=16", "data.helpful_rl=[${data.rl.1}]")
    same = ("stages.ppo.iterations=2", "stages.ppo.snapshots=[1]")
    never = "stages.harmless_annotations.annotator.flip=0"
    run, rows = example(first, tmp_path / "outputs", "baselines", *fewer, *same, never)
    assert built(run) & set(facts(first)["keys"]) == {"ratings"}
    folder = tmp_path / "outputs"
    summary = json.loads((folder / "latest" / "summary.json").read_text())
    trained = {"rlhf_helpful", "rlhf_hh", "ppo", "ppo_cot"}
    assert set(summary["players"]) == trained | {"helpful_only", "sl_cai", "dpo"}
    curve = json.loads((folder / "store" / run["keys"]["ratings"] / "ratings.json").read_text())["variants"][""][
        "curve"
    ]
    assert {(one["run"], one["sequences"]) for one in curve} == {(name, 16) for name in trained}
    thoughts = rows("labels_cot", Label)
    assert [row.id for row in thoughts] == [row.id for row in rows("labels", Label)]
    assert all(len(row.thoughts) == 2 and 0.4 <= row.p_a <= 0.6 for row in thoughts)
    apology = "sorry , i can not answer that ."
    labels = [row for row in rows("harmless_annotations", Label) if apology in (row.a, row.b)]
    assert labels and all(row.p_a == float(row.a == apology) for row in labels)


def test_two_feedback_models_make_one_label(first: Path, tmp_path: Path) -> None:
    run, rows = example(first, tmp_path / "outputs", "two_feedback_models")
    assert built(run) == {"labels_second", "ensemble", "calibration", *LEARNT}
    voices = [rows(slot, Label) for slot in ("labels", "labels_second", "ensemble")]
    for at_once, thought, both in zip(*voices, strict=True):
        assert at_once.id == thought.id == both.id
        assert len(thought.thoughts) == 2 and 0.4 <= thought.p_a <= 0.6  # one in either order
        assert both.thoughts == thought.thoughts and not at_once.thoughts
        share = sum(1 / (1 + math.exp(-logit)) for logit in thought.logits) / 2
        logits = [sum(at_once.logits) / 2, math.log(share / (1 - share))]
        assert both.logits == pytest.approx(logits, abs=1e-6)
        p = 1 / (1 + math.exp(-sum(logits) / 2))
        assert both.p_a == pytest.approx(min(max(p, 0.02), 0.98), abs=1e-6)


def test_a_reward_model_on_the_other_half_of_the_prompts_looks_on(first: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    run, rows = example(first, outputs, "split_reward_models")
    learnt = {"reward_model", "test_reward_model", "reward_accuracy", "test_reward_accuracy"}
    assert built(run) == {*learnt, "ppo", "answers_ppo", "verdicts_ppo", "ratings"}
    halves = [
        json.loads((outputs / "store" / run["keys"][slot] / "counts.json").read_text())
        for slot in ("reward_model", "test_reward_model")
    ]
    sizes = [sum(half[name] for name in ("kept", "too_long", "identical", "weightless")) for half in halves]
    assert min(sizes) > 0
    assert sum(sizes) == sum(len(rows(slot, Label)) for slot in ("labels", "annotations", "human_labels"))
    logged = (outputs / "store" / run["keys"]["ppo"] / "metrics.jsonl").read_text().splitlines()
    assert sum("heldout/scores" in json.loads(line) for line in logged) == 2
    summary = json.loads((outputs / "latest" / "summary.json").read_text())
    assert set(summary["tables"]["test_reward_model"]) == {"accuracy_helpful", "accuracy_harmless"}


def from_stage(first: Path, outputs: Path, stage: str) -> None:
    """A copy of a finished store without one stage and all that was made after it."""
    shutil.copytree(first / "store", outputs / "store")
    gone = {stage}
    manifests = {path: json.loads(path.read_text()) for path in (outputs / "store").rglob("manifest.json")}
    while True:
        more = {
            m["stage"] for m in manifests.values() if {u.split("/")[0] for u in m["upstream"].values()} & gone
        } - gone
        if not more:
            break
        gone |= more
    for name in gone:
        shutil.rmtree(outputs / "store" / name)


def kill_when(process: subprocess.Popen[bytes], seen: Any) -> None:
    limit = time.monotonic() + 120
    while not seen() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    assert process.poll() is None, "the run ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_a_text_stage_goes_on_at_the_chunk_where_it_was_killed(first: Path, tmp_path: Path) -> None:
    """A blank is put into the first chunk: it stays where the stage goes on, and what follows has the same bytes."""
    outputs = tmp_path / "outputs"
    from_stage(first, outputs, "revise")
    chunks = outputs / "store" / "revise"
    process = subprocess.Popen(command(outputs), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=tmp_path)
    kill_when(process, lambda: list(chunks.glob("*.partial/chunks/000000.jsonl")))
    (written,) = chunks.glob("*.partial/chunks/000000.jsonl")
    kept = written.read_bytes().replace(b"{", b"{ ", 1)
    written.write_bytes(kept)
    cai(outputs)
    found, expected = contents(outputs / "store"), contents(first / "store")
    (rows,) = (name for name in expected if name.startswith("revise/") and name.endswith("/rows.jsonl"))
    assert found[rows].startswith(kept)
    found[rows] = found[rows].replace(b"{ ", b"{", 1)
    made = [name for name in expected if not name.endswith("manifest.json")]  # these hold the digest of those bytes
    assert found.keys() == expected.keys() and all(found[name] == expected[name] for name in made)


@pytest.mark.parametrize(("stage", "longer"), [("ppo", "stages.ppo.iterations=2"), ("dpo", "stages.dpo.fit.epochs=30")])
def test_a_learning_stage_goes_on_at_its_checkpoint(first: Path, tmp_path: Path, stage: str, longer: str) -> None:
    """Killed as soon as there is one; a second folder has what nothing stopped."""
    outputs, whole, always = tmp_path / "outputs", tmp_path / "whole", "runtime.checkpoint_share=1e9"
    for folder in (outputs, whole):
        from_stage(first, folder, stage)
    process = subprocess.Popen(
        command(outputs, longer, always), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=tmp_path
    )
    kill_when(process, lambda: list((outputs / "store" / stage).glob("*.partial/.work/*.ckpt")))
    cai(outputs, longer, always)
    cai(whole, longer)
    found, expected = contents(outputs / "store"), contents(whole / "store")
    assert [name for name in expected if found.get(name) != expected[name]] == []
    assert found.keys() == expected.keys()


@pytest.mark.parametrize("stage", ["answers", "ppo"])
def test_any_other_stage_goes_on_at_that_stage(first: Path, tmp_path: Path, stage: str) -> None:
    outputs = tmp_path / "outputs"
    from_stage(first, outputs, stage)
    process = subprocess.Popen(command(outputs), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=tmp_path)
    kill_when(process, lambda: list((outputs / "store" / stage).glob("*.partial/*")))
    cai(outputs)
    assert contents(outputs / "store") == contents(first / "store")


def test_two_processes_at_once_make_each_stage_once(tmp_path: Path, first: Path) -> None:
    outputs = tmp_path / "outputs"
    runs = [
        subprocess.Popen(
            command(outputs, f"hydra.run.dir={outputs}/runs/{i}"),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=tmp_path,
        )
        for i in range(2)
    ]
    assert [run.wait() for run in runs] == [0, 0]
    one, two = (built(json.loads((outputs / "runs" / str(i) / "run.json").read_text())) for i in range(2))
    assert not one & two
    assert one | two == set(facts(first)["keys"])
    assert contents(outputs / "store") == contents(first / "store")


@pytest.mark.parametrize(
    ("number", "stage", "begun"),
    [
        (signal.SIGTERM, "revise", "*"),
        (signal.SIGTERM, "sft", "metrics.jsonl"),
        (signal.SIGINT, "ppo", "metrics.jsonl"),  # inside Lightning's fit, which catches KeyboardInterrupt
    ],
)
def test_a_stop_signal_ends_with_the_line_that_goes_on(
    first: Path, tmp_path: Path, number: signal.Signals, stage: str, begun: str
) -> None:
    outputs = tmp_path / "out puts"
    from_stage(first, outputs, stage)
    long = ["stages.sft.fit.epochs=3000"] if stage == "sft" else ["stages.ppo.iterations=3000"]
    process = subprocess.Popen(command(outputs, *long), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=tmp_path)
    while not list((outputs / "store" / stage).glob(f"*.partial/{begun}")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    said = process.communicate()[1].decode()
    assert process.returncode == 128 + number
    line = said.splitlines()[-1]
    assert line.startswith("cai: stopped; the same command goes on where it was: cai run experiment=smoke ")
    assert shlex.split(line)[-len(long) - 1 :] == [f"runtime.outputs={outputs}", *long]
    assert "Traceback" not in said
