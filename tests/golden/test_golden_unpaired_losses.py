"""KTO against a slow loop over numbers, and its KL against exact enumeration."""

import math

import pytest
import torch

from cai_lightning.learning.unpaired_losses import UnpairedInput, batch_kl, kto_loss

POLICY = (0.4, 0.3, 0.1, 0.1, 0.1)
REFERENCE = (0.2, 0.2, 0.2, 0.2, 0.2)


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def slow(rows, kl, beta, desirable, undesirable):
    """The weighted mean of lambda - v, one reply and one label at a time."""
    total = mass = 0.0
    for policy, reference, p, weight in rows:
        ratio = policy - reference
        good = desirable - desirable / (1 + math.exp(-beta * (ratio - kl)))
        bad = undesirable - undesirable / (1 + math.exp(-beta * (kl - ratio)))
        total += weight * (p * good + (1 - p) * bad)
        mass += weight
    return total / mass


@pytest.mark.parametrize(("desirable", "undesirable"), [(1.0, 1.0), (1.33, 1.0), (0.5, 2.0)])
@pytest.mark.parametrize("kl", [0.0, 0.8])
def test_kto_is_a_slow_loop(desirable, undesirable, kl):
    rows = [(-10.0, -12.0, 1.0, 1.0), (-9.0, -8.5, 0.0, 2.0), (-30.0, -20.0, 0.7, 0.5), (-4.0, -4.0, 0.2, 1.0)]
    columns = [f64(*column) for column in zip(*rows, strict=True)]
    found = kto_loss(
        UnpairedInput(*columns, kl=torch.tensor(kl, dtype=torch.float64)),
        beta=0.3,
        desirable_weight=desirable,
        undesirable_weight=undesirable,
    )
    assert found.loss.item() == pytest.approx(slow(rows, kl, 0.3, desirable, undesirable), abs=1e-12)


def test_kto_by_hand():
    # beta 0.5 times (ln 9 + 1 - 1) = ln 3, of which sigmoid is 3/4: a good reply costs 2 * 1/4, a bad one 3 * 3/4
    row = UnpairedInput(f64(math.log(9) + 1), f64(0), f64(1), f64(1), kl=f64(1)[0])
    weights = {"desirable_weight": 2.0, "undesirable_weight": 3.0}
    assert kto_loss(row, beta=0.5, **weights).loss.item() == pytest.approx(0.5, abs=1e-12)
    bad = kto_loss(row._replace(p_desirable=f64(0)), beta=0.5, **weights)
    assert bad.loss.item() == pytest.approx(2.25, abs=1e-12)


def test_the_kl_over_replies_in_their_proportions_is_the_exact_one():
    """Ten one-token replies of which each token has its share under the policy: the mean is the sum over tokens."""
    tokens = [token for token, share in enumerate(POLICY) for _ in range(round(10 * share))]
    policy, reference = (f64(*[math.log(of[token]) for token in tokens]) for of in (POLICY, REFERENCE))
    exact = sum(p * math.log(p / q) for p, q in zip(POLICY, REFERENCE, strict=True))
    assert exact > 0.1
    assert batch_kl(policy.requires_grad_(), reference).item() == pytest.approx(exact, abs=1e-12)
    assert not batch_kl(policy, reference).requires_grad


def test_the_kl_is_not_below_0_and_0_of_nothing():
    assert batch_kl(f64(-3.0, -1.0), f64(-1.0, -2.0)).item() == 0  # the mean is -1/2
    assert batch_kl(f64(), f64()).item() == 0
