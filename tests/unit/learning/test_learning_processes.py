"""Two processes learn what one learns from twice as many accumulated batches (CPU, gloo)."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cai_lightning.data.batching import BatchLoader
from cai_lightning.experiment.errors import UserError
from cai_lightning.experiment.launch import make
from cai_lightning.learning.rollout_loader import RolloutLoader

FIT = {
    "_target_": "cai_lightning.learning.fit.fit",
    "_partial_": True,
    "epochs": 2,
    "clip": 0.5,
    "precision": "32-true",
    "products": "default",
    "checkpoint_activations": False,
    "compile": False,
    "log_every": 1,
}
STRATEGIES = {
    "auto": {"_target_": "cai_lightning.learning.processes.automatic", "_partial_": True},
    "ddp": {"_target_": "lightning.pytorch.strategies.DDPStrategy", "_partial_": True},
    "fsdp2": {"_target_": "cai_lightning.learning.processes.Sharded", "_partial_": True},
}


@pytest.fixture(autouse=True)
def stages_are_importable(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)


def batches(rank, processes, accumulate):
    loader = BatchLoader(
        lambda _: [[0], [1, 2], [3], [4], [5]],
        lambda rows, divisor: (rows, divisor),
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        accumulate=accumulate,
    )
    part = loader.part(rank, processes)
    assert len(part) == len(list(part))
    return list(part)


def test_processes_take_turns_and_a_missing_batch_weighs_nothing():
    # windows of two batches: masses 1 + (2 + 3), 4 + 5, 6; each over two processes
    assert batches(0, 2, 1) == [([0], 3.0), ([3], 4.5), ([5], 3.0)]
    assert batches(1, 2, 1) == [([1, 2], 3.0), ([4], 4.5), ([5], math.inf)]
    # a window of four batches, then one: what two processes that accumulate two see
    assert [divisor for _, divisor in batches(0, 2, 2)] == [15 / 4, 15 / 4, 6 / 4]
    assert batches(0, 1, 2) == [([0], 3.0), ([1, 2], 3.0), ([3], 4.5), ([4], 4.5), ([5], 3.0)]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_twice_the_batches(tmp_path, llama, tokenizer):
    llama().save_pretrained(tmp_path / "policy")
    tokenizer.save_pretrained(tmp_path / "policy")

    def trained(name, processes, strategy):
        folder = tmp_path / name
        folder.mkdir()
        accumulate = 2 // processes
        fit = {**FIT, "devices": processes, "strategy": STRATEGIES[strategy], "accumulate": accumulate}
        values = {"fit": fit, "accumulate": accumulate, "policy": tmp_path / "policy"}
        make(folder, "process_stages.cases", values)
        return folder

    alone = trained("alone", 1, "auto")
    assert sum(row["kl"] > 0.1 for row in logged(alone / "kto")) > 2
    for name in ("ddp", "fsdp2"):
        together = trained(name, 2, name)
        for case in ("tied", "untied", "adapter", "reward", "dpo", "kto", "kto adapter"):
            weights, others = load_file(alone / case / "weights"), load_file(together / case / "weights")
            assert weights.keys() == others.keys()
            for key, weight in weights.items():
                torch.testing.assert_close(others[key], weight, rtol=1e-5, atol=1e-5, msg=f"{name} {case} {key}")
            rows, theirs = logged(alone / case), logged(together / case)
            for key in rows[0]:
                values, ours = ([nan_of(row[key]) for row in each] for each in (theirs, rows))
                assert values == pytest.approx(ours, rel=1e-4, abs=1e-6, nan_ok=True), (name, case, key)
        # bfloat16 products round: only that it runs and stays near
        weights, others = load_file(alone / "mixed" / "weights"), load_file(together / "mixed" / "weights")
        assert all((others[key] - weight).abs().mean() < 0.01 for key, weight in weights.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_a_step_of_two_processes_is_that_of_one(tmp_path, llama, tokenizer, name):
    """As near as batches that are cut otherwise (test_learning_equivalence): rounding, and without a direction."""
    llama().save_pretrained(tmp_path / "policy")
    tokenizer.save_pretrained(tmp_path / "policy")

    def moved(processes, strategy):
        folder = tmp_path / strategy
        folder.mkdir()
        fit = FIT | {"epochs": 1, "clip": 1e9, "devices": processes, "strategy": STRATEGIES[strategy]}
        fit |= {"accumulate": 2 // processes}
        values = {"fit": fit, "accumulate": 2 // processes, "policy": tmp_path / "policy"}
        make(folder, "process_stages.steps", values)
        found = {}
        for case in ("sft", "reward", "dpo", "kto"):
            before, after = (load_file(folder / case / side) for side in ("before", "weights"))
            assert len(logged(folder / case)) == 1
            found[case] = torch.cat([(after[key] - before[key]).flatten() for key in sorted(before)])
        return found

    alone, together = moved(1, "auto"), moved(2, name)
    for case, expected in alone.items():
        difference = together[case] - expected
        assert expected.norm() > 1e-3, case
        assert difference.norm() < 1e-6 * expected.norm() + 1e-7 * len(expected) ** 0.5, case
        assert difference.mean().abs() < 1e-7, case


@pytest.mark.slow
@pytest.mark.parametrize(("name", "killed"), [("ddp", "adapter"), ("fsdp2", "reward")])
def test_two_processes_that_are_killed_go_on_with_the_same_bytes(tmp_path, llama, tokenizer, name, killed):
    llama().save_pretrained(tmp_path / "policy")
    tokenizer.save_pretrained(tmp_path / "policy")
    fit = {**FIT, "devices": 2, "strategy": STRATEGIES[name], "accumulate": 1}

    def trained(side, kill):
        (tmp_path / side).mkdir(exist_ok=True)
        make(tmp_path / side, "process_stages.kept", {"fit": fit, "killed": kill, "policy": tmp_path / "policy"})

    trained("whole", None)
    with pytest.raises(UserError, match="killed"):
        trained("killed", killed)
    trained("killed", None)
    for case in ("adapter", "reward"):
        weights, others = (load_file(tmp_path / side / case / "weights") for side in ("whole", "killed"))
        assert weights.keys() == others.keys()
        assert all(torch.equal(others[key], weight) for key, weight in weights.items())
        rows, theirs = ((tmp_path / side / case / "metrics.jsonl").read_bytes() for side in ("whole", "killed"))
        assert rows == theirs


def nan_of(value):
    """A figure of a step that had none of its rows is null."""
    return math.nan if value is None else value


def logged(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_collect_and_learn_what_one_does(tmp_path, llama, tokenizer):
    """PPO, RLOO read once, and GRPO with a KL loss: the same replies, figures and weights."""
    llama().save_pretrained(tmp_path / "policy")
    tokenizer.save_pretrained(tmp_path / "policy")
    for name, count in (("auto", 1), ("ddp", 2)):
        (tmp_path / name).mkdir()
        fit = {**FIT, "epochs": 3, "devices": count, "strategy": STRATEGIES[name], "accumulate": 1}
        make(tmp_path / name, "process_stages.on_policy", {"fit": fit, "policy": tmp_path / "policy"})
    for case in ("ppo", "rloo", "grpo"):
        alone, together = (tmp_path / name / case for name in ("auto", "ddp"))
        assert (alone / "replies").read_text() == (together / "replies").read_text()
        weights, others = load_file(alone / "weights"), load_file(together / "weights")
        assert weights.keys() == others.keys()
        for key, weight in weights.items():
            torch.testing.assert_close(others[key], weight, rtol=1e-5, atol=1e-5, msg=f"{case} {key}")
        rows, theirs = logged(alone), logged(together)
        assert len(rows) == len(theirs)
        for row, other in zip(rows, theirs, strict=True):
            assert other == pytest.approx(row, rel=1e-4, abs=1e-5), case


def test_prompts_of_a_minibatch_must_be_shared_evenly():
    loader = RolloutLoader(
        None, lambda _: None, rollouts=12, samples=2, minibatch=6, ppo_epochs=1, route="packed", seed=0
    )
    assert len(loader.part(0, 3)) == len(loader)
    with pytest.raises(ValueError, match="minibatch: has 3 prompts, which 2 processes cannot share evenly"):
        loader.part(0, 2)
