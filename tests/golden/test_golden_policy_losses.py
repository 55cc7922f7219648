"""Losses of policies that learn from their own replies, against numbers worked by hand and exact sums."""

import math

import pytest
import torch
from torch.nn.functional import log_softmax

from cai_lightning.learning.policy_losses import (
    by_length,
    by_reply,
    by_token,
    kl_loss,
    ppo_policy_loss,
    ppo_value_loss,
    weighed,
)

LN2 = 0.6931471805599453


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def each(mask):
    return by_token(mask, mask.sum().double())


def test_ppo_policy_loss_by_hand():
    # Ratios 2, 2, 1/2, 1/2 with clip 0.2 and advantages +1, -1, +1, -1:
    # gains min(2, 1.2) = 1.2, min(-2, -1.2) = -2, min(.5, .8) = .5, min(-.5, -.8) = -.8; mean -1.1 / 4.
    ln2 = math.log(2)
    logps, old = f64(ln2, ln2, -ln2, -ln2)[None], torch.zeros(1, 4, dtype=torch.float64)
    advantages, mask = f64(1, -1, 1, -1)[None], torch.ones(1, 4, dtype=torch.bool)
    output = ppo_policy_loss(logps, old, advantages, mask, each(mask), clip_range=0.2)
    assert output.loss.item() == pytest.approx(1.1 / 4, abs=1e-12)
    assert output.metrics["policy/clipfrac_avg"].item() == 0.5
    assert output.metrics["policy/approxkl_avg"].item() == pytest.approx(LN2**2 / 2, abs=1e-12)
    assert output.metrics["val/ratio"].item() == pytest.approx(1.25, abs=1e-12)


def test_ppo_value_loss_by_hand():
    # Returns 1, old values 0, clip 0.2. Value 0.5 moved too far: max(.5^2, (0.2 - 1)^2) = .64.
    # Value 0.1 is inside: .9^2 = .81. Value -0.5 moved away: max(1.5^2, 1.2^2) = 2.25. Half the mean of the three.
    values, zeros = f64(0.5, 0.1, -0.5)[None], torch.zeros(1, 3, dtype=torch.float64)
    mask = torch.ones(1, 3, dtype=torch.bool)
    output = ppo_value_loss(values, zeros, zeros + 1, mask, each(mask), value_clip=0.2)
    assert output.loss.item() == pytest.approx((0.64 + 0.81 + 2.25) / 6, abs=1e-12)
    assert output.metrics["val/clipfrac_avg"].item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("poison", [1e6, float("nan"), float("inf")])
def test_what_the_mask_hides_changes_nothing(poison):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(3, 5, generator=generator, dtype=torch.float64) for _ in range(6)]
    mask = torch.rand(3, 5, generator=generator) < 0.6

    def run(hidden):
        logps, old, advantages, values, old_values, returns = (
            torch.where(mask, tensor, hidden).requires_grad_(i in (0, 3)) for i, tensor in enumerate(tensors)
        )
        policy = ppo_policy_loss(logps, old, advantages, mask, each(mask), clip_range=0.2)
        value = ppo_value_loss(values, old_values, returns, mask, each(mask), value_clip=0.2)
        (policy.loss + value.loss).backward()
        figures = [policy.loss, value.loss, *policy.metrics.values(), *value.metrics.values()]
        return [figure.item() for figure in figures], logps.grad, values.grad

    clean, poisoned = run(0.0), run(poison)
    assert clean[0] == poisoned[0]
    assert torch.equal(clean[1], poisoned[1]) and torch.equal(clean[2], poisoned[2])
    assert clean[1][~mask].abs().max() == 0


def test_tokens_replies_or_lengths_count_alike():
    """Two replies of 3 and 1 tokens with losses 1, 2, 3 and 10."""
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]], dtype=torch.bool)
    x = f64(1, 2, 3, 10, float("nan"), float("nan")).view(2, 3)
    assert weighed(x, mask, by_token(mask, mask.sum())).item() == pytest.approx(16 / 4)
    assert weighed(x, mask, by_reply(mask, mask.sum())).item() == pytest.approx((2 + 10) / 2)
    assert weighed(x, mask, by_length(mask, mask.sum(), length=1)).item() == pytest.approx((6 + 10) / 2)
    assert weighed(x, mask, by_length(mask, mask.sum(), length=4)).item() == pytest.approx((6 / 4 + 10 / 4) / 2)


def test_the_parts_of_processes_sum_to_the_mean_of_all():
    """Each process's loss by its own tokens over half of all tokens, then the mean of both, as gradients are."""
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for weigh in (by_token, by_reply):
        whole = weighed(x, mask, weigh(mask, mask.sum()))
        parts = [weighed(x[rows], mask[rows], weigh(mask[rows], mask.sum() / 2)) for rows in ([0, 2], [1, 3])]
        assert sum(parts).item() / 2 == pytest.approx(whole.item(), abs=1e-7)  # sums of float32


def test_reinforce_of_whole_replies_is_the_gradient_of_expected_reward():
    """One token a reply, five tokens: the mean of the loss's gradient over exact draws is minus that of E[reward]."""
    logits = f64(0.3, -1.0, 0.7, 0.0, 1.1).requires_grad_()
    reward = f64(1.0, -2.0, 0.5, 3.0, -1.0)
    probabilities = logits.softmax(0)
    (exact,) = torch.autograd.grad((probabilities * reward).sum(), logits)
    total = torch.zeros(5, dtype=torch.float64)
    mask = torch.ones(1, 1, dtype=torch.bool)
    for token in range(5):
        logps = log_softmax(logits, 0)[token].view(1, 1)
        loss = ppo_policy_loss(
            logps, logps.detach(), reward[token].view(1, 1), mask, by_length(mask, mask.sum(), length=1), clip_range=0.2
        ).loss
        total += probabilities[token].detach() * torch.autograd.grad(loss, logits)[0]
    assert (-total).tolist() == pytest.approx(exact.tolist(), abs=1e-12)


def test_the_kl_as_a_loss_is_the_exact_kl_on_average():
    """Five tokens: the mean over exact draws of the loss is KL(policy, reference), worked as a sum of p ln(p / q)."""
    policy, reference = log_softmax(f64(0.3, -1.0, 0.7, 0.0, 1.1), 0), log_softmax(f64(1.0, 0.2, 0.0, -0.5, 0.4), 0)
    mask = torch.ones(1, 1, dtype=torch.bool)
    weights = mask.double()
    mean = sum(
        policy[token].exp() * kl_loss(policy[token].view(1, 1), reference[token].view(1, 1), mask, weights)
        for token in range(5)
    )
    exact = sum(math.exp(p) * (p - q) for p, q in zip(policy.tolist(), reference.tolist(), strict=True))
    assert mean.item() == pytest.approx(exact, abs=1e-12)
    alike = kl_loss(policy.view(1, 5), policy.view(1, 5), torch.ones(1, 5, dtype=torch.bool), torch.ones(1, 5))
    assert alike.item() == 0


@pytest.mark.parametrize("poison", [1e6, float("nan"), float("inf")])
def test_the_kl_loss_does_not_see_what_is_masked(poison):
    mask = torch.tensor([[True, False, True]])
    clean, dirty = (torch.where(mask, f64(-1, -2, -3)[None], hidden).requires_grad_() for hidden in (0.0, poison))
    losses = [
        kl_loss(logps, torch.where(mask, f64(-2, -1, -4)[None], poison), mask, each(mask)) for logps in (clean, dirty)
    ]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == losses[1].item() and torch.equal(clean.grad, dirty.grad)
