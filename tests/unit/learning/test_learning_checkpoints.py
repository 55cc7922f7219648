"""A fit that is killed at any step and goes on ends with the bytes of one that nothing stopped."""

from __future__ import annotations

import errno
import logging
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from test_learning_rollouts import ppo  # noqa: F401 - a fixture

from cai_lightning.data.batching import length_buckets
from cai_lightning.data.pairs import PairData, PairRow
from cai_lightning.data.sft import SFTData, SFTRow
from cai_lightning.data.unpaired import UnpairedData, UnpairedRow
from cai_lightning.learning import checkpoint_files
from cai_lightning.learning.advantages import AdaptiveKL
from cai_lightning.learning.checkpoint_files import newest, write
from cai_lightning.learning.checkpoints import Checkpoints
from cai_lightning.learning.fit import fit
from cai_lightning.learning.losses import dpo_loss
from cai_lightning.learning.optim import muon_adamw, warmup_linear
from cai_lightning.learning.preference import Frozen, PreferenceModule, adapter_off
from cai_lightning.learning.reward_model import RewardModule
from cai_lightning.learning.scaling import RunningWhiten
from cai_lightning.learning.sft import SFTModule
from cai_lightning.learning.tracking import METRICS, JsonlLogger
from cai_lightning.learning.unpaired import UnpairedModule
from cai_lightning.learning.unpaired_losses import kto_loss
from cai_lightning.models.adapters import lora
from cai_lightning.models.causal import save_causal
from cai_lightning.models.reward import reward_from_causal

LENGTHS = (4, 4, 7, 8, 10, 12, 5, 9, 12, 11)
BATCHES = {"plan": partial(length_buckets, multiple=4), "batch_tokens": 24, "route": "packed", "seed": 0}
EPOCHS = 3
ALWAYS = 1e9  # a share of the time that makes every step due


class Killed(Exception):
    pass


class Kill(Callback):
    """Ends a fit after so many steps, as a signal would; `begun` is the step that it went on from."""

    def __init__(self, after):
        self.after = after
        self.begun = None

    def on_train_batch_start(self, trainer, *_):
        if self.begun is None:
            self.begun = trainer.global_step
        if trainer.global_step == self.after:
            raise Killed


def token_rows():
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(2, 16, (length,), generator=generator).tolist() for length in LENGTHS]
    return [SFTRow(row, [0.0, *[1.0] * (len(row) - 1)]) for row in ids]


def pair_rows():
    generator = torch.Generator().manual_seed(2)

    def some(length):
        return torch.randint(2, 16, (length,), generator=generator).tolist()

    return [
        PairRow(
            str(n), some(2), some(length % 5 + 1), some(length % 3 + 1), 0.5 + 0.05 * (n % 9), 1.0 + n % 2, -2.0, -3.0
        )
        for n, length in enumerate(LENGTHS)
    ]


def dropping(model, seed=0):
    lora(model, rank=2, alpha=8, dropout=0.5, targets=None, rslora=False, dora=False, merge=True, seed=seed)
    return model


@pytest.fixture
def cases(llama, recipe, tokenizer, ppo, tmp_path):  # noqa: F811
    """Functions that make a module and its data anew, by name, with what else is kept."""
    falling = {**recipe, "schedule": partial(warmup_linear, warmup_steps=3, final_fraction=0.1)}
    muon = partial(
        muon_adamw, muon_lr=0.02, muon_momentum=0.9, muon_weight_decay=0.0, lr=1e-2, betas=(0.9, 0.95), eps=1e-8,
        weight_decay=0.01,
    )  # fmt: skip
    save_causal(llama(), tokenizer, tmp_path / "policy", dtype="float32")

    def sft(policy, accumulate=1, **changes):
        module = SFTModule(policy, **falling | changes)
        return module, SFTData(token_rows(), [], accumulate=accumulate, **BATCHES), {}

    def preference(policy, live=None):
        module = PreferenceModule(policy, loss=partial(dpo_loss, beta=0.5), live=live, **falling)
        return module, PairData(pair_rows(), [], accumulate=1, share=1, **BATCHES), {}

    def kto(policy, reference, accumulate):
        loss = partial(kto_loss, beta=0.5, desirable_weight=1.5, undesirable_weight=1.0)
        module = UnpairedModule(policy, loss=loss, live=Frozen(reference), **falling)
        rows = [UnpairedRow(row.id, row.prompt, row.chosen, row.p_chosen, row.weight) for row in pair_rows()]
        return module, UnpairedData(rows, [], accumulate=accumulate, kl=True, **{**BATCHES, "batch_tokens": 12}), {}

    def reward():
        model, _ = reward_from_causal(
            tmp_path / "policy",
            marker=None,
            mean=True,
            gain=1.0,
            head_std=0.1,
            dtype="float32",
            adapter=dropping,
            seed=0,
        )
        module = RewardModule(model, centre_coef=0.01, **falling)
        return module, PairData(pair_rows(), [], accumulate=1, share=1, **BATCHES), {}

    def rollouts(**changes):
        kl, scaling = AdaptiveKL(kl_coef=0.1, target=0.5, horizon=64), RunningWhiten(momentum=0.5)
        module, collect, loader = ppo(max_new_tokens=4, kl=kl, scaling=scaling, **changes)
        return module, loader, {"collector": collect}

    return {
        "sft": lambda: sft(llama()),
        "sft dropout": lambda: sft(dropping(llama())),
        "sft accumulated": lambda: sft(llama(), accumulate=2),
        "sft muon": lambda: sft(llama(), optimizer=muon),
        "dpo cached": lambda: preference(llama()),
        "dpo live": lambda: preference(llama(), live=Frozen(llama())),
        "dpo adapter": lambda: preference(dropping(llama()), live=adapter_off),
        "kto accumulated": lambda: kto(dropping(llama()), llama(seed=2), accumulate=2),
        "reward": reward,
        "ppo": lambda: rollouts(),
        "ppo once": lambda: rollouts(once=True, minibatch=32),
        "ppo adapter": lambda: rollouts(policy=dropping(llama())),
    }


def run(make, folder, trainer, *, share, after=None, accumulate=1, begun=None):
    """A fit in a folder; whether it came to its end, and everything that it leaves behind.

    The step that it went on from is added to the list `begun`.
    """
    folder.mkdir(exist_ok=True)
    module, data, kept = make()
    journals = [folder / METRICS, folder / "seldom.jsonl"]
    checkpoints = Checkpoints(folder / "work", share=share, kept=kept, journals=journals, first=True)
    given = trainer | {"loggers": [JsonlLogger(folder)], "accumulate": accumulate, "precision": "bf16-mixed"}
    given["callbacks"] = [kill := Kill(after)]
    try:
        fit(module, data, epochs=EPOCHS, checkpoints=checkpoints, **given)
    except Killed:
        return None
    finally:
        if begun is not None:
            begun.append(kill.begun)
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    return weights, (folder / METRICS).read_bytes(), {name: part.state_dict() for name, part in kept.items()}


CASES = [
    "sft", "sft dropout", "sft accumulated", "sft muon", "dpo cached", "dpo live", "dpo adapter",
    "kto accumulated", "reward", "ppo", "ppo once", "ppo adapter",
]  # fmt: skip


def test_a_journal_that_nothing_was_written_to_is_no_file(cases, trainer, tmp_path):
    assert run(cases["sft"], tmp_path / "one", trainer, share=ALWAYS, after=2) is None
    (tmp_path / "one" / "seldom.jsonl").write_text("since the checkpoint")
    run(cases["sft"], tmp_path / "one", trainer, share=ALWAYS)
    assert not (tmp_path / "one" / "seldom.jsonl").exists()


def check_equal(found, expected):
    for number, (one, other) in enumerate(zip(found[1].splitlines(), expected[1].splitlines(), strict=True)):
        assert one == other, number
    for name, value in expected[0].items():
        assert torch.equal(found[0][name], value), name
    assert found[1:] == expected[1:]


@pytest.mark.parametrize("case", CASES)
def test_killed_at_every_step_and_every_time_it_ends_with_the_same_bytes(cases, trainer, tmp_path, case):
    """Each process makes one step (of PPO one iteration) and dies, until none is left to make."""
    accumulate = 2 if case.endswith("accumulated") else 1
    whole = run(cases[case], tmp_path / "whole", trainer, share=0.0, accumulate=accumulate)
    steps = sum(1 for _ in whole[1].splitlines())
    stride = {"ppo": 4, "ppo once": 1, "ppo adapter": 4}.get(case, 1)
    folder, found, begun = tmp_path / "killed", None, []
    given = {"share": ALWAYS, "accumulate": accumulate, "begun": begun}
    while found is None:
        assert len(begun) <= steps
        found = run(cases[case], folder, trainer, after=stride * (len(begun) + 1), **given)
    assert len(begun) > EPOCHS - 1
    assert begun == [stride * life for life in range(len(begun))]
    check_equal(found, whole)


@pytest.mark.parametrize("case", ["sft dropout", "reward", "ppo"])
def test_a_fit_that_was_killed_long_after_its_checkpoint_forgets_what_came_between(cases, trainer, tmp_path, case):
    """One checkpoint at the first chance, none later: figures written since are cut off and written again."""
    whole = run(cases[case], tmp_path / "whole", trainer, share=0.0)
    folder = tmp_path / "killed"
    first, begun = {"ppo": 4}.get(case, 1), []
    assert run(cases[case], folder, trainer, share=ALWAYS, after=first, begun=begun) is None
    before = (folder / METRICS).read_bytes()
    assert run(cases[case], folder, trainer, share=1e-9, after=first + 7, begun=begun) is None
    written = (folder / METRICS).read_bytes()
    assert whole[1].startswith(written) and len(written) > len(before)
    check_equal(run(cases[case], folder, trainer, share=1e-9, begun=begun), whole)
    assert begun == [0, first, first]


def test_keeping_a_fit_changes_nothing(cases, trainer, tmp_path):
    whole = run(cases["sft dropout"], tmp_path / "whole", trainer, share=0.0)
    check_equal(run(cases["sft dropout"], tmp_path / "kept", trainer, share=ALWAYS), whole)


def test_frozen_weights_are_not_kept(cases, trainer, tmp_path):
    assert run(cases["dpo adapter"], tmp_path / "one", trainer, share=ALWAYS, after=3) is None
    state = torch.load(newest(tmp_path / "one" / "work"), weights_only=True)
    assert all("lora" in name for name in state["state_dict"]) and state["state_dict"]


def test_the_newest_whole_checkpoint_is_found(tmp_path, caplog):
    """A torn file, one whose digest is missing and one that is still being written are passed over, and said."""
    assert newest(tmp_path / "none") is None
    write({"step": torch.tensor(1)}, tmp_path / "0001.ckpt")
    good = (tmp_path / "0001.ckpt").read_bytes()
    write({"step": torch.tensor(2)}, tmp_path / "0002.ckpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0002.ckpt", "0002.sha256"]
    (tmp_path / "0003.ckpt.new").write_bytes(b"half")
    (tmp_path / "0004.ckpt").write_bytes(good)
    damaged = bytearray((tmp_path / "0002.ckpt").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "0005.ckpt").write_bytes(bytes(damaged))
    (tmp_path / "0005.sha256").write_text((tmp_path / "0002.sha256").read_text())
    with caplog.at_level(logging.WARNING):
        assert newest(tmp_path) == tmp_path / "0002.ckpt"
    assert [record.args[0].name for record in caplog.records] == ["0005.ckpt", "0004.ckpt"]


def test_a_full_disk_leaves_the_last_checkpoint_and_nothing_else(tmp_path, monkeypatch):
    write({"step": torch.tensor(1)}, tmp_path / "0001.ckpt")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_, file):
        file.write(b"some bytes")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_files.torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        write({"step": torch.tensor(2)}, tmp_path / "0002.ckpt")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_a_killed_process_had_half_written_goes_with_the_next_checkpoint(tmp_path):
    (tmp_path / "0001.ckpt.new").write_bytes(b"half")
    write({"step": torch.tensor(2)}, tmp_path / "0002.ckpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0002.ckpt", "0002.sha256"]


def test_a_disk_that_gives_back_other_bytes_leaves_the_last_checkpoint_and_nothing_else(tmp_path, monkeypatch):
    write({"step": torch.tensor(1)}, tmp_path / "0001.ckpt")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    save = torch.save

    def lossy(state, file):
        save(state, file)
        file._file.truncate(file._file.tell() - 1)

    monkeypatch.setattr(checkpoint_files.torch, "save", lossy)
    with pytest.raises(OSError, match="not the bytes that were written are read back"):
        write({"step": torch.tensor(2)}, tmp_path / "0002.ckpt")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
