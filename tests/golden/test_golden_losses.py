"""Preference losses against numbers worked by hand."""

import itertools
import math

import pytest
import torch

from cai_lightning.learning.losses import (
    PreferenceInput,
    accuracies,
    bradley_terry_loss,
    cdpo_loss,
    decided_labels,
    dpo_loss,
    ipo_loss,
    robust_dpo_loss,
    weighted_nll,
)

LN2 = 0.6931471805599453


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def pairs(margins, p_chosen, weight=None):
    """Pairs whose log-ratio margins are as given: the policy moved on `chosen` alone."""
    n = len(margins)
    return PreferenceInput(
        policy_chosen=f64(*margins) - 10,
        policy_rejected=f64(*[-12.0] * n),
        lengths_chosen=torch.full((n,), 4),
        lengths_rejected=torch.full((n,), 5),
        reference_chosen=f64(*[-10.0] * n),
        reference_rejected=f64(*[-12.0] * n),
        p_chosen=f64(*p_chosen),
        weight=f64(*(weight or [1.0] * n)),
        margin=torch.zeros(n, dtype=torch.float64),
        source=torch.zeros(n, dtype=torch.int64),
        sources=(),
    )


@pytest.mark.parametrize("p_chosen", [0.0, 0.3, 0.5, 1.0])
def test_every_label_costs_ln_2_at_margin_0(p_chosen):
    assert bradley_terry_loss(f64(0), f64(p_chosen), f64(1), margin=f64(0)).item() == pytest.approx(LN2, abs=1e-12)
    assert dpo_loss(pairs([0.0], [p_chosen]), beta=0.1).loss.item() == pytest.approx(LN2, abs=1e-12)


def test_bradley_terry_by_hand():
    # margin ln 3: P = 3/4. A hard label costs -ln(3/4) = 0.287682; the label 3/4 costs its own entropy,
    # -(3/4 ln 3/4 + 1/4 ln 1/4) = 0.215762 + 0.346574 = 0.562335.
    margin = f64(math.log(3))
    assert bradley_terry_loss(margin, f64(1), f64(1), margin=f64(0)).item() == pytest.approx(0.287682072, abs=1e-9)
    assert bradley_terry_loss(margin, f64(0.75), f64(1), margin=f64(0)).item() == pytest.approx(0.562335145, abs=1e-9)


def test_a_margin_is_asked_of_the_likelier_reply():
    """ln 3 ahead of what is asked: as above without margin, on either side; an undecided label asks for none."""
    ahead = f64(math.log(3) + 2)
    for p in (1.0, 0.75):
        plain = bradley_terry_loss(f64(math.log(3)), f64(p), f64(1), margin=f64(0)).item()
        assert bradley_terry_loss(ahead, f64(p), f64(1), margin=f64(2)).item() == pytest.approx(plain, abs=1e-12)
        assert bradley_terry_loss(-ahead, f64(1 - p), f64(1), margin=f64(2)).item() == pytest.approx(plain, abs=1e-12)
    assert bradley_terry_loss(f64(0), f64(0.5), f64(1), margin=f64(2)).item() == pytest.approx(LN2, abs=1e-12)


def test_a_soft_label_is_served_best_by_its_log_odds_beyond_the_margin():
    """At margin 2 and p = 3/4 by 2 + ln 3, at the entropy of the label."""
    best = (f64(math.log(3)) + 2).requires_grad_()
    loss = bradley_terry_loss(best, f64(0.75), f64(1), margin=f64(2))
    assert loss.item() == pytest.approx(0.562335145, abs=1e-9)
    assert torch.autograd.grad(loss, best)[0].item() == pytest.approx(0, abs=1e-12)


def test_dpo_with_an_offset_by_hand():
    # beta 0.5 times 2 ln 9 = 2 ln 3, of which ln 3 is asked: ln 3 is left, ln 4/3
    rows = pairs([2 * math.log(9)], [1.0])._replace(margin=f64(math.log(3)))
    assert dpo_loss(rows, beta=0.5).loss.item() == pytest.approx(0.287682072, abs=1e-9)


def test_dpo_by_hand():
    # beta * margin = 0.5 * ln 9 = ln 3, as above; weights 1 and 3 mix ln 4/3 and ln 2.
    output = dpo_loss(pairs([math.log(9), 0.0], [1.0, 1.0], [1.0, 3.0]), beta=0.5)
    assert output.loss.item() == pytest.approx((0.287682072 + 3 * LN2) / 4, abs=1e-9)
    assert output.metrics["rewards/chosen"].item() == pytest.approx(math.log(3) / 4, abs=1e-9)
    assert output.metrics["rewards/rejected"].item() == 0
    assert output.metrics["logps/rejected"].item() == -12


def test_swapping_replies_and_label_changes_nothing():
    one = pairs([1.3, -0.4], [0.8, 0.3])
    other = one._replace(
        policy_chosen=one.policy_rejected,
        policy_rejected=one.policy_chosen,
        reference_chosen=one.reference_rejected,
        reference_rejected=one.reference_chosen,
        p_chosen=1 - one.p_chosen,
    )
    for loss in (dpo_loss, ipo_loss):
        assert loss(one, beta=0.3).loss.item() == pytest.approx(loss(other, beta=0.3).loss.item(), abs=1e-12)
    accuracies = [dpo_loss(rows, beta=0.3).metrics["rewards/accuracies"].item() for rows in (one, other)]
    assert accuracies == [1.0, 1.0]


def test_an_undecided_label_has_no_accuracy():
    # one pair right, one wrong, one at 0.5 that does not count
    metrics = dpo_loss(pairs([1.0, 1.0, 1.0], [0.9, 0.2, 0.5]), beta=0.1).metrics
    assert metrics["rewards/accuracies"].item() == 0.5


def test_cdpo_by_hand():
    # smoothing 1/4 turns a hard label into 3/4: the entropy above
    assert cdpo_loss(pairs([math.log(9)], [1.0]), beta=0.5, label_smoothing=0.25).loss.item() == pytest.approx(
        0.562335145, abs=1e-9
    )


@pytest.mark.parametrize("flip_rate", [0.0, 0.1, 0.4])
def test_over_all_flips_of_labels_the_robust_loss_is_dpo_s_in_the_mean(flip_rate):
    """All 2^4 ways to flip four labels, by their probability; soft ones and margins among them."""
    right = pairs([2.0, -1.0, 0.3, 4.0], [1.0, 0.0, 0.8, 1.0], [1.0, 2.0, 0.5, 1.0])._replace(
        margin=f64(0.0, 0.7, 0.0, 1.5)
    )
    mean = 0.0
    for flips in itertools.product((False, True), repeat=4):
        p = f64(*[1 - p if flip else p for p, flip in zip(right.p_chosen.tolist(), flips, strict=True)])
        probability = math.prod(flip_rate if flip else 1 - flip_rate for flip in flips)
        mean += probability * robust_dpo_loss(right._replace(p_chosen=p), beta=0.7, flip_rate=flip_rate).loss.item()
    assert mean == pytest.approx(dpo_loss(right, beta=0.7).loss.item(), abs=1e-12)


@pytest.mark.parametrize("flip_rate", [0.5, 0.7, -0.1, math.nan])
def test_a_flip_rate_that_leaves_labels_without_meaning_is_refused(flip_rate):
    with pytest.raises(ValueError, match=r"flip_rate: is .*; it must be a share below 0.5"):
        robust_dpo_loss(pairs([0.0], [1.0]), beta=0.1, flip_rate=flip_rate)


@pytest.mark.parametrize("label_smoothing", [0.5, 0.9, -0.1, math.nan])
def test_a_smoothing_that_turns_labels_round_is_refused(label_smoothing):
    with pytest.raises(ValueError, match=r"label_smoothing: is .*; it must be a share below 0.5"):
        cdpo_loss(pairs([0.0], [1.0]), beta=0.1, label_smoothing=label_smoothing)


def test_accuracies_by_a_slow_count():
    generator = torch.Generator().manual_seed(0)
    difference = torch.randn(40, generator=generator)
    p = torch.randint(0, 5, (40,), generator=generator) / 4
    source = torch.randint(0, 3, (40,), generator=generator)
    weight = torch.randint(0, 2, (40,), generator=generator).float()
    found = accuracies(difference, p, weight, source, ("x", "y", "z"))
    for number, name in enumerate(("x", "y", "z", None)):
        right = [
            (d > 0) == (q > 0.5)
            for d, q, s, w in zip(difference.tolist(), p.tolist(), source.tolist(), weight.tolist(), strict=True)
            if q != 0.5 and w > 0 and (name is None or s == number)
        ]
        key = "rewards/accuracies" + (f"/{name}" if name else "")
        assert found[key].item() == pytest.approx(sum(right) / len(right))
        assert decided_labels(p, weight, source, ("x", "y", "z"))[key].item() == len(right)


@pytest.mark.parametrize(("p_chosen", "optimum"), [(1.0, 5.0), (0.5, 0.0), (0.75, 2.5), (0.0, -5.0)])
def test_ipo_is_least_at_its_margin(p_chosen, optimum):
    """1 / (2 beta) = 5 for a hard label and beta = 0.1; (p - 1/2) / beta for a soft one."""
    margin = torch.tensor([optimum], dtype=torch.float64, requires_grad=True)
    rows = pairs([0.0], [p_chosen])._replace(policy_chosen=margin - 10)
    output = ipo_loss(rows, beta=0.1)
    (slope,) = torch.autograd.grad(output.loss, margin)
    assert slope.item() == pytest.approx(0, abs=1e-9)
    # what is left is the spread of the two targets: 4 p (1 - p) * 25
    assert output.loss.item() == pytest.approx(100 * p_chosen * (1 - p_chosen), abs=1e-9)


def test_ipo_by_hand():
    # (2 - 5)^2
    assert ipo_loss(pairs([2.0], [1.0]), beta=0.1).loss.item() == pytest.approx(9.0, abs=1e-9)


def test_losses_with_a_reference_say_that_they_need_one():
    rows = pairs([0.0], [1.0])._replace(reference_chosen=None)
    with pytest.raises(ValueError, match="needs reference log-probabilities"):
        dpo_loss(rows, beta=0.1)


def test_nll_by_hand():
    # -(1 * -2 + 3 * -4) / 8 = 14 / 8; the token of weight 0 is not read
    logps = torch.tensor([[-2.0, float("nan"), -4.0]])
    weights = torch.tensor([[1.0, 0.0, 3.0]])
    assert weighted_nll(logps, weights, torch.tensor(8.0)).item() == 1.75
