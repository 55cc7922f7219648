"""Ways of learning the same rows in one step that must not differ: how they are cut, read, referred to and recomputed.

A step of plain gradient descent of length 1 moves weights by minus the gradient, so weights after it are compared: by
the norm of the difference over that of the step, and by its mean, where one-sided errors of weighting show.
"""

from __future__ import annotations

import shutil
from functools import partial

import pytest
import torch
from transformers import AttentionInterface

from cai_lightning.data.pairs import PairData, PairRow
from cai_lightning.data.sft import SFTData, SFTRow
from cai_lightning.data.unpaired import UnpairedData, UnpairedRow
from cai_lightning.learning.compiling import compiled
from cai_lightning.learning.fit import fit
from cai_lightning.learning.losses import dpo_loss
from cai_lightning.learning.optim import constant
from cai_lightning.learning.preference import Frozen, PreferenceModule, adapter_off
from cai_lightning.learning.reward_model import RewardModule
from cai_lightning.learning.sft import SFTModule
from cai_lightning.learning.unpaired import UnpairedModule
from cai_lightning.learning.unpaired_losses import kto_loss
from cai_lightning.models.adapters import lora
from cai_lightning.models.attention import NAME, attend_packed
from cai_lightning.models.causal import save_causal
from cai_lightning.models.logprobs import branch_logprobs
from cai_lightning.models.packing import Tree, pack
from cai_lightning.models.reward import reward_from_causal

LENGTHS = (12, 3, 9, 4, 7, 5, 11, 6)
PLAIN = {
    "optimizer": lambda module: torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1.0),
    "schedule": partial(constant, warmup_steps=0),
}


def in_fives(lengths, *, batch_tokens, seed, epoch):  # noqa: ARG001
    """Batches of `batch_tokens` rows each, in order: what is varied here."""
    return [list(range(start, start + batch_tokens)) for start in range(0, len(lengths), batch_tokens)]


def some(length, seed):
    return torch.randint(2, 16, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def token_rows():
    return [SFTRow(some(n, n), [0.0, *[0.5 + 0.5 * (place % 3) for place in range(n - 1)]]) for n in LENGTHS]


def pair_rows(policy):
    """Unequal lengths, labels and weights, with the references that the policy itself gives."""
    rows = []
    for number, length in enumerate(LENGTHS):
        prompt, chosen, rejected = (
            some(length, number),
            some(length // 2, 40 + number),
            some(3 + number % 4, 80 + number),
        )
        with torch.no_grad():
            known = branch_logprobs(policy, pack([Tree(prompt, [chosen, rejected])]), temperature=1.0)
        rows.append(
            PairRow(
                str(number), prompt, chosen, rejected, 0.5 + 0.06 * number, 1.0 + number % 3, *(known - 0.5).tolist()
            )
        )
    return rows


def rated_rows():
    """Unequal lengths, ratings and weights; neighbours share a prompt."""
    return [
        UnpairedRow(str(n), some(LENGTHS[n // 2], n // 2), some(3 + n % 4, 80 + n), 0.9 - 0.1 * n, 1.0 + n % 3)
        for n in range(len(LENGTHS))
    ]


@pytest.fixture
def step(llama, tokenizer, trainer, tmp_path):
    """A function that makes one step of a kind of learning and gives how every weight moved, as one row."""
    save_causal(llama(), tokenizer, tmp_path / "policy", dtype="float32")
    trainer = trainer | {"clip": 1e9}

    def run(kind, *, rows_together=8, route="packed", share=1, live=False, adapter=False, **more):
        policy = llama()
        rows = pair_rows(policy)
        if adapter:
            lora(policy, rank=2, alpha=8, dropout=0.0, targets=None, rslora=False, dora=False, merge=True, seed=0)
        accumulate = 8 // rows_together
        given = {"plan": in_fives, "batch_tokens": rows_together, "accumulate": accumulate, "route": route, "seed": 0}
        if live:  # that of the rows is half a nat off
            rows = [row._replace(reference_chosen=None, reference_rejected=None) for row in rows]
        if kind == "sft":
            module, data = SFTModule(policy, **PLAIN), SFTData(token_rows(), [], **given)
        elif kind == "reward":
            model, _ = reward_from_causal(
                tmp_path / "policy", marker=None, mean=True, gain=1.0, head_std=0.1, dtype="float32", seed=0,
                adapter=lambda model, seed: None,  # noqa: ARG005
            )  # fmt: skip
            module, data = RewardModule(model, centre_coef=0.01, **PLAIN), PairData(rows, [], share=share, **given)
        elif kind == "kto":  # from another reference, so that the KL is none of 0
            loss = partial(kto_loss, beta=0.5, desirable_weight=1.5, undesirable_weight=1.0)
            module = UnpairedModule(policy, loss=loss, live=Frozen(llama(seed=2)), **PLAIN)
            data = UnpairedData(rated_rows(), [], kl=True, **given)
        else:
            reference = (adapter_off if adapter else Frozen(llama())) if live else None
            module = PreferenceModule(policy, loss=partial(dpo_loss, beta=0.5), live=reference, **PLAIN)
            data = PairData(rows, [], share=share, **given)
        trained = [weight for weight in module.parameters() if weight.requires_grad]
        before = torch.cat([weight.detach().flatten().clone() for weight in trained])
        fit(module, data, epochs=1, **trainer | more | {"accumulate": accumulate})
        return torch.cat([weight.detach().flatten() for weight in trained]) - before

    return run


def check(found, expected):
    """The difference is rounding: small, and without a direction."""
    assert expected.norm() > 1e-3
    assert (found - expected).norm() < 1e-6 * expected.norm() + 1e-7 * len(expected) ** 0.5
    assert (found - expected).mean().abs() < 1e-7


@pytest.mark.parametrize("kind", ["sft", "reward", "dpo", "kto"])
@pytest.mark.parametrize("rows_together", [4, 2, 1])
def test_a_step_is_the_same_however_it_is_cut(step, kind, rows_together):
    """1 x 8 = 2 x 4 = 4 x 2 = 8 x 1, with unequal lengths and weights."""
    check(step(kind, rows_together=rows_together), step(kind))


@pytest.mark.parametrize("kind", ["sft", "reward", "dpo", "kto"])
@pytest.mark.parametrize("way", [{"route": "padded"}, {"share": 0}, {"checkpoint_activations": True}])
def test_a_step_is_the_same_however_rows_are_read(step, kind, way):
    """Padded rows, prompts repeated for each reply, activations computed again."""
    check(step(kind, **way), step(kind))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch warns of what its own compiler does
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler here")
def test_a_step_is_the_same_compiled(step):
    check(step("sft", compile=True), step("sft"))


def test_layers_are_compiled_while_a_fit_lasts(llama):
    policy = llama()
    for wanted in (True, False):
        with compiled(policy, wanted):
            assert [layer._compiled_call_impl is not None for layer in policy.model.layers] == [wanted] * 2
        assert [layer._compiled_call_impl for layer in policy.model.layers] == [None, None]
    assert AttentionInterface()[NAME] is attend_packed


def test_a_reference_is_the_same_live_and_cached(step, monkeypatch):
    monkeypatch.setitem(globals(), "pair_rows", partial(shifted, pair_rows))
    check(step("dpo", live=True), step("dpo"))
    check(step("dpo", adapter=True, live=True), step("dpo", adapter=True))


def shifted(rows_of, policy):
    """The rows with the references as the policy gives them, not half a nat off."""
    return [
        row._replace(reference_chosen=row.reference_chosen + 0.5, reference_rejected=row.reference_rejected + 0.5)
        for row in rows_of(policy)
    ]
