import json
import signal
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback

from cai_lightning.data.batching import length_buckets
from cai_lightning.data.sft import SFTData, SFTRow
from cai_lightning.learning.fit import fit
from cai_lightning.learning.guards import FirstBatch, check_supervision
from cai_lightning.learning.sft import SFTModule
from cai_lightning.learning.tracking import JsonlLogger

ROWS = [SFTRow([3, 4 + i, 1], [0.0, 1.0, 1.0]) for i in range(4)]


def data(rows=ROWS):
    plan = partial(length_buckets, multiple=4)
    return SFTData(rows, [], plan=plan, batch_tokens=4, accumulate=1, route="packed", seed=0)


def weights(module):
    return [p.detach().clone() for p in module.parameters()]


def test_a_loss_that_is_no_number_stops_before_the_update(llama, recipe, trainer):
    rows = [*ROWS[:2], SFTRow([3, 9, 1], [0.0, float("inf"), 1.0]), ROWS[3]]
    module = SFTModule(llama(), **recipe)
    seen = []
    callback = FirstBatch(lambda batch: seen.append(batch.rows.tolist()))
    with pytest.raises(ValueError, match=r"loss is nan at step \d, before the update: look at rows \[2\]") as error:
        fit(module, data(rows), epochs=1, **(trainer | {"callbacks": [callback]}))
    assert "\n" not in str(error.value)
    assert len(seen) == 1
    assert all(torch.isfinite(p).all() for p in module.parameters())


def test_a_gradient_that_is_no_number_stops_before_the_update(llama, recipe, trainer):
    module = SFTModule(llama(), **recipe)
    module.policy.model.norm.weight.register_hook(lambda gradient: gradient * float("nan"))
    before = weights(module)
    with pytest.raises(ValueError, match="gradient norm is nan at step 0, before the update"):
        fit(module, data(), epochs=1, **trainer)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(module), strict=True))


def test_a_gradient_that_is_no_number_names_the_rows_of_all_batches_of_its_step(llama, recipe, trainer):
    module, steps = SFTModule(llama(), **recipe), []
    module.policy.model.norm.weight.register_hook(lambda g: g * (float("nan") if len(steps) == 3 else 1.0))
    callback = FirstBatch(lambda _: None)
    callback.on_train_batch_start = lambda *given: steps.append(given[2].rows.tolist())
    with pytest.raises(ValueError, match="gradient norm is nan at step 1") as error:
        fit(module, data(), epochs=1, **trainer | {"accumulate": 2, "callbacks": [callback]})
    assert f"rows {[*steps[2], *steps[3]]} of" in str(error.value) and len(steps) == 4


def test_nothing_is_printed_written_or_left_switched_on(llama, recipe, trainer, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    fit(SFTModule(llama(), **recipe), data(), epochs=1, **trainer)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_scheduler_s_variables_say_nothing_of_a_fit(llama, recipe, trainer, tmp_path, monkeypatch):
    """In a job of Slurm with eight tasks a fit of one process is one, and no signal makes it write files of its own."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"NTASKS": "8", "PROCID": "3", "LOCALID": "3", "JOB_ID": "7", "JOB_NAME": "x"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    before, seen = signal.getsignal(signal.SIGUSR1), []

    class Watch(Callback):
        def on_train_start(self, trainer, pl_module):  # noqa: ARG002
            seen.append((trainer.world_size, trainer.global_rank, signal.getsignal(signal.SIGUSR1)))

    fit(SFTModule(llama(), **recipe), data(), epochs=1, **trainer | {"callbacks": [Watch()]})
    assert seen == [(1, 0, before)]


def test_several_processes_are_not_started_from_one(llama, recipe, trainer):
    with pytest.raises(ValueError, match="devices is 2, but this is one process: `cai run` starts them"):
        fit(SFTModule(llama(), **recipe), data(), epochs=1, **(trainer | {"devices": 2}))


def test_metrics_are_one_sorted_object_a_step(llama, recipe, trainer, tmp_path):
    logger = JsonlLogger(tmp_path)
    fit(SFTModule(llama(), **recipe), data(), epochs=2, **(trainer | {"loggers": [logger], "log_every": 2}))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    # eight steps, every second one
    assert [row["step"] for row in rows] == [1, 3, 5, 7]
    assert all(list(row) == sorted(row) for row in rows)
    assert {"epoch", "grad_norm", "loss", "lr", "step"} == set(rows[0])


def test_infinite_metrics_become_null(tmp_path):
    JsonlLogger(tmp_path).log_metrics({"x": float("nan"), "y": 1.0}, step=3)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 3, "x": null, "y": 1.0}\n'


@pytest.mark.parametrize(
    ("ids", "marks", "message"),
    [
        ([2, 3, 4, 5, 1], [0, 0, 0, 1, 1], None),
        ([2, 3, 4, 5, 1], [0, 0, 0, 1, 0], "learns no end token"),
        ([2, 3, 4, 5, 1], [0, 0, 1, 1, 1], "not a prompt"),
        ([2, 2, 4, 5, 1], [0, 0, 0, 1, 1], "more than one start token"),
        ([2, 3, 2, 4, 1], [0, 0, 0, 0, 1], None),
        ([2, 4, 5, 1, 1], [0, 0, 1, 1, 1], "inside its reply, or a pad behind it"),
        ([2, 3, 4, 5, 1], [0, 0, 0, 0, 0], "no supervised token"),
        ([2, 4, 5, 5, 1], [0, 0, 1, 0, 1], "unsupervised tokens inside"),
    ],
)
def test_first_batch_assertions(ids, marks, message):
    """Start token 2, end token 1, prompts end in 4; the first row is fine."""
    rows = [([2, 4, 7, 1], [0, 0, 1, 1]), (ids, marks)]

    def check():
        check_supervision(rows, bos=2, eos=1, is_prompt=lambda before: before[-1] == 4)

    if message is None:
        check()
    else:
        with pytest.raises(ValueError, match=f"row 1 of the first batch.*{message}"):
            check()


def test_a_start_token_that_also_ends_replies_need_not_begin_a_text():
    """As in GPT-2, whose prompts have none."""
    rows = [([3, 4, 7, 1], [0, 0, 1, 1])]
    check_supervision(rows, bos=1, eos=1, is_prompt=lambda before: before[-1] == 4)
    with pytest.raises(ValueError, match=r"no row of the first batch begins with the start token \(2\)"):
        check_supervision(rows, bos=2, eos=1, is_prompt=lambda before: before[-1] == 4)


def test_rows_may_be_given_one_after_the_other_and_lack_an_end_where_that_is_allowed():
    rows = [([2, 4, 7, 1], [0, 0, 0.5, 1]), ([2, 4, 7, 8], [0, 0, 1, 1])]

    def check(**given):
        check_supervision(iter(rows), bos=2, eos=1, is_prompt=lambda before: before[-1] == 4, **given)

    check(every_end=False)
    with pytest.raises(ValueError, match="row 1 of the first batch learns no end token"):
        check()
