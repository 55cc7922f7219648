from functools import partial

import pytest
import torch
from torch import nn

from cai_lightning.learning.optim import (
    adamw,
    configured,
    constant,
    cosine,
    linear,
    muon_adamw,
    piecewise,
    rmsprop,
    warmup_linear,
)

MUON = {
    "muon_lr": 0.02,
    "muon_momentum": 0.95,
    "muon_weight_decay": 0.01,
    "lr": 1e-3,
    "betas": (0.9, 0.98),
    "eps": 1e-8,
    "weight_decay": 0.1,
}


def rates(factory, steps):
    """The learning rates of the first steps, for a peak of 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = factory(optimizer)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_linear_schedule_by_hand():
    # two steps up (1/3, 2/3), the peak, then from 1 to 0.2 in four steps of 0.2, and no further
    factory = partial(warmup_linear, total_steps=6, warmup_steps=2, final_fraction=0.2)
    assert rates(factory, 8) == pytest.approx([1 / 3, 2 / 3, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2])


def test_piecewise_schedule_by_hand():
    # eleven steps are tenths: up to the peak in two, down to a tenth in four, at once up to a half, and down in five
    factory = partial(piecewise, total_steps=11, shares=[0, 0.2, 0.6, 0.6001, 1], factors=[0, 1, 0.2, 0.5, 0.1])
    assert rates(factory, 12) == pytest.approx([0, 0.5, 1, 0.8, 0.6, 0.4, 0.2, 0.4, 0.3, 0.2, 0.1, 0.1], abs=1e-3)


@pytest.mark.parametrize("shares", [[0, 0.5], [0.1, 0.5, 1], [0, 0.6, 0.5, 1], [0, 0.5, 0.5, 1], [0, 0.5, 0.9]])
def test_a_piecewise_schedule_needs_a_share_for_every_factor(shares):
    with pytest.raises(ValueError, match="must rise from 0 to 1, with one of"):
        rates(partial(piecewise, total_steps=9, shares=shares, factors=[1.0] * max(3, len(shares))), 1)


def test_constant_schedule_by_hand():
    assert rates(partial(constant, total_steps=9, warmup_steps=1), 3) == pytest.approx([0.5, 1.0, 1.0])


def test_adamw_decays_matrices_only_and_skips_what_is_frozen(llama):
    model = llama()
    model.get_input_embeddings().weight.requires_grad_(False)
    optimizer = adamw(model, lr=1e-3, betas=(0.8, 0.95), eps=1e-5, weight_decay=0.1)
    decayed, kept = optimizer.param_groups
    for group in (decayed, kept):
        assert (group["lr"], group["betas"], group["eps"]) == (1e-3, (0.8, 0.95), 1e-5)
    assert {p.dim() for p in decayed["params"]} == {2} and decayed["weight_decay"] == 0.1
    assert {p.dim() for p in kept["params"]} == {1} and kept["weight_decay"] == 0
    trained = sum(p.requires_grad for p in model.parameters())
    assert len(decayed["params"]) + len(kept["params"]) == trained


@pytest.mark.parametrize("tie", [True, False])
def test_muon_takes_hidden_matrices_and_no_head(llama, tie):
    model = llama(tie=tie)
    muon, matrices, vectors = muon_adamw(model, **MUON).param_groups
    # two layers of q, k, v, o, gate, up, down
    assert len(muon["params"]) == 14
    assert len(matrices["params"]) == (1 if tie else 2)
    assert len(vectors["params"]) == 5
    assert [group["lr"] for group in (muon, matrices, vectors)] == [0.02, 1e-3, 1e-3]


def test_a_schedule_moves_all_groups_in_proportion(llama):
    optimizer = muon_adamw(llama(), **MUON)
    constant(optimizer, 10, warmup_steps=1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 5e-4, 5e-4])


def test_together_steps_as_its_parts_would(llama):
    joint, apart = llama(), llama()
    optimizer = muon_adamw(joint, **MUON)
    hidden = [p for name, p in apart.named_parameters() if name.endswith("_proj.weight")]
    others = [p for name, p in apart.named_parameters() if not name.endswith("_proj.weight")]
    parts = [
        torch.optim.Muon(hidden, lr=0.02, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(
            [
                {"params": [p for p in others if p.dim() == 2], "weight_decay": 0.1},
                {"params": [p for p in others if p.dim() == 1], "weight_decay": 0.0},
            ],
            lr=1e-3,
            betas=(0.9, 0.98),
            fused=True,
        ),
    ]
    ids = torch.tensor([[3, 4, 5, 6]])
    for _ in range(3):
        for model, steps in ((joint, [optimizer]), (apart, parts)):
            for step in steps:
                step.zero_grad()
            model(ids, labels=ids).loss.backward()
            for step in steps:
                step.step()
    assert all(torch.equal(a, b) for a, b in zip(joint.parameters(), apart.parameters(), strict=True))


def test_together_goes_on_from_a_saved_state(llama):
    ids = torch.tensor([[3, 4, 5, 6]])

    def step(model, optimizer):
        optimizer.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimizer.step()

    whole, part = llama(), llama()
    one, two = muon_adamw(whole, **MUON), muon_adamw(part, **MUON)
    step(whole, one)
    step(part, two)
    resumed = llama()
    resumed.load_state_dict(part.state_dict())
    three = muon_adamw(resumed, **MUON)
    three.load_state_dict(two.state_dict())
    three.param_groups[0]["lr"] = one.param_groups[0]["lr"] = 0.01
    step(whole, one)
    step(resumed, three)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_without_muon_the_error_says_what_to_do(llama, monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ImportError, match=r"has no Muon: use torch >= 2\.9"):
        muon_adamw(llama(), **MUON)


def test_schedules_move_every_step(llama, recipe):
    built = configured(llama(), recipe["optimizer"], recipe["schedule"], 10)
    assert built["lr_scheduler"]["interval"] == "step"
    assert built["lr_scheduler"]["scheduler"].optimizer is built["optimizer"]


def test_cosine_and_linear_rise_in_a_share_of_the_steps_and_fall_in_the_rest():
    shape = {"warmup_fraction": 0.2, "final_fraction": 0.0}
    # two of ten steps rise; the other eight fall: cos(pi / 4) at a quarter of the way, 0 at its middle
    seen = rates(lambda optimizer: cosine(optimizer, 10, **shape), 11)
    assert seen == pytest.approx(
        [1 / 3, 2 / 3, 1, 0.9619398, 0.8535534, 0.6913417, 0.5, 0.3086583, 0.1464466, 0.0380602, 0]
    )
    seen = rates(lambda optimizer: linear(optimizer, 10, **shape), 11)
    assert seen == pytest.approx([1 / 3, 2 / 3, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0])
    assert rates(lambda optimizer: cosine(optimizer, 4, warmup_fraction=0.0, final_fraction=0.1), 6)[4:] == [0.1, 0.1]


def test_rmsprop_takes_its_first_step_by_hand():
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(1.0)
    optimizer = rmsprop(layer, lr=0.1, alpha=0.99, eps=0.1)
    layer(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    # the running mean of squares is 0.01 after a gradient of 1, so the step is 0.1 / (0.1 + 0.1)
    assert layer.weight.item() == pytest.approx(0.5, abs=1e-6)
