"""Losses of the policy alone against plain probabilities, exact enumeration and limits."""

import itertools
import math

import pytest
import torch

from cai_lightning.learning.losses import PreferenceInput
from cai_lightning.learning.reference_free import log_odds, orpo_loss, simpo_loss

VOCABULARY = (0.4, 0.3, 0.15, 0.1, 0.05)  # the probability of each of five tokens, whatever stands before


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def pairs(chosen, rejected, lengths=None, p_chosen=1.0):
    """One pair of summed log-probabilities."""
    ones, (long, short) = f64(1.0), lengths or (1, 1)
    return PreferenceInput(
        policy_chosen=f64(chosen),
        policy_rejected=f64(rejected),
        lengths_chosen=torch.tensor([long]),
        lengths_rejected=torch.tensor([short]),
        reference_chosen=None,
        reference_rejected=None,
        p_chosen=f64(p_chosen),
        weight=ones,
        margin=0 * ones,
        source=torch.tensor([0]),
        sources=(),
    )


def of(text):
    """The summed log-probability of a text of token numbers."""
    return sum(math.log(VOCABULARY[token]) for token in text)


@pytest.mark.parametrize("times", [2, 5])
def test_a_text_that_is_said_twice_costs_simpo_what_it_costs_once(times):
    for chosen, rejected in itertools.product(itertools.product(range(5), repeat=2), repeat=2):
        once = pairs(of(chosen), of(rejected), (2, 2))
        more = pairs(of(chosen * times), of(rejected), (2 * times, 2))
        found = [simpo_loss(rows, beta=2.0, gamma=0.7).loss.item() for rows in (once, more)]
        assert found[0] == pytest.approx(found[1], abs=1e-12)


def test_simpo_is_the_log_probability_that_the_better_reply_leads_by_gamma():
    """Per token ln .4 and ln .1 differ by ln 4: twice that is ln 16, less ln 4 again ln 4, of which P = 4/5."""
    found = simpo_loss(pairs(of((0, 0)), of((3,)), (2, 1)), beta=2.0, gamma=math.log(4))
    assert found.loss.item() == pytest.approx(-math.log(4 / 5), abs=1e-12)
    assert found.metrics["rewards/margins"].item() == pytest.approx(math.log(16), abs=1e-12)


def test_orpo_is_what_plain_probabilities_say_of_every_pair_of_tokens():
    for chosen, rejected, p in itertools.product(range(5), range(5), (1.0, 0.7, 0.0)):
        one, other = VOCABULARY[chosen], VOCABULARY[rejected]
        ratio = (one / (1 - one)) / (other / (1 - other))
        hard = -math.log(one) - 0.3 * math.log(ratio / (1 + ratio))
        turned = -math.log(other) - 0.3 * math.log(1 / (1 + ratio))
        found = orpo_loss(pairs(of((chosen,)), of((rejected,)), p_chosen=p), odds_ratio_weight=0.3)
        assert found.loss.item() == pytest.approx(p * hard + (1 - p) * turned, abs=1e-12)
        assert found.metrics["rewards/margins"].item() == pytest.approx(math.log(ratio), abs=1e-12)


def test_orpo_reads_the_geometric_mean_over_tokens():
    """The tokens .4 and .1 are .2 in the mean, so the odds are 1/4; those of .3 alone 3/7."""
    found = orpo_loss(pairs(of((0, 3)), of((1,)), (2, 1)), odds_ratio_weight=1.0)
    assert found.metrics["rewards/chosen"].item() == pytest.approx(math.log(1 / 4), abs=1e-12)
    assert found.loss.item() == pytest.approx(-math.log(0.2) + math.log(1 + 12 / 7), abs=1e-12)
    assert found.metrics["nll"].item() == pytest.approx(-math.log(0.2), abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logp", [-1e-3, -1e-6, -1e-12, 0.0, -0.6931, -0.6932, -80.0, -1000.0])
def test_log_odds_are_finite_near_certainty_and_near_nothing(dtype, logp):
    """ln(p / (1 - p)) is -ln(-logp) close to 1, and logp close to 0; what floats cannot tell from 1 is held back."""
    given = torch.tensor([logp], dtype=dtype, requires_grad=True)
    found = log_odds(given)
    (slope,) = torch.autograd.grad(found.sum(), given)
    assert math.isfinite(found.item()) and math.isfinite(slope.item())
    eps = torch.finfo(dtype).eps
    if logp > -1e-5:
        assert found.item() == pytest.approx(-math.log(max(-logp, eps)), rel=1e-4)
    elif logp < -50:
        assert found.item() == pytest.approx(logp)
    else:
        assert found.item() == pytest.approx(logp - math.log(1 - math.exp(logp)), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("chosen", "rejected"), [(0.0, -1.0), (0.0, 0.0), (-1.0, 0.0), (-1e-9, -1e-9)])
def test_orpo_near_certainty_has_a_finite_gradient(chosen, rejected):
    rows = pairs(chosen, rejected)
    rows = rows._replace(
        policy_chosen=rows.policy_chosen.float().requires_grad_(),
        policy_rejected=rows.policy_rejected.float().requires_grad_(),
    )
    loss = orpo_loss(rows, odds_ratio_weight=1.0).loss
    slopes = torch.autograd.grad(loss, (rows.policy_chosen, rows.policy_rejected))
    assert math.isfinite(loss.item()) and all(math.isfinite(slope.item()) for slope in slopes)
