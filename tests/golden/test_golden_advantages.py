"""Advantages, KL estimates and KL control against slow loops, exact sums and numbers worked by hand."""

import pytest
import torch

from cai_lightning.learning.advantages import AdaptiveKL, FixedKL, gae, k1, k3, per_token_rewards, whiten


def example(seed=0):
    """Values and rewards of rows with 3, 5 and 1 tokens in a width of 6, starting at steps 1, 0 and 4."""
    generator = torch.Generator().manual_seed(seed)
    rewards, values = (torch.randn(3, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = torch.tensor([[0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 0]], dtype=torch.bool)
    return rewards, values, mask


def test_gae_is_the_sum_of_discounted_errors():
    """Eq. 16 read literally: A_t = sum over l of (gamma lam)^l delta_(t+l), row by row."""
    rewards, values, mask = example()
    gamma, lam = 0.9, 0.7
    advantages, returns = gae(rewards, values, mask, gamma=gamma, lam=lam)
    for row in range(3):
        steps = [t for t in range(6) if mask[row, t]]
        for t in steps:
            total = 0.0
            for later in [s for s in steps if s >= t]:
                after = values[row, later + 1].item() if later + 1 in steps else 0.0
                delta = rewards[row, later].item() + gamma * after - values[row, later].item()
                total += (gamma * lam) ** (later - t) * delta
            assert advantages[row, t].item() == pytest.approx(total, abs=1e-9)
            assert returns[row, t].item() == pytest.approx(total + values[row, t].item(), abs=1e-9)
    assert advantages[~mask].abs().max() == 0 and returns[~mask].abs().max() == 0


def test_gae_limits():
    """lam = gamma = 1: return = rewards still to come. lam = 0: one-step error."""
    rewards, values, mask = example()
    _, returns = gae(rewards, values, mask, gamma=1.0, lam=1.0)
    assert returns[0, 1].item() == pytest.approx(rewards[0, 1:4].sum().item())
    advantages, _ = gae(rewards, values, mask, gamma=1.0, lam=0.0)
    assert advantages[1, 0].item() == pytest.approx((rewards[1, 0] + values[1, 1] - values[1, 0]).item())


def test_the_score_lands_on_the_last_reply_token():
    _, _, mask = example()
    kl = torch.full((3, 6), 0.5, dtype=torch.float64)
    rewards = per_token_rewards(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), kl, mask, kl_coef=0.1)
    # -0.1 * 0.5 = -0.05 a token
    assert rewards[0].tolist() == pytest.approx([0, -0.05, -0.05, 0.95, 0, 0])
    assert rewards[1].tolist() == pytest.approx([-0.05, -0.05, -0.05, -0.05, 1.95, 0])
    assert rewards[2].tolist() == pytest.approx([0, 0, 0, 0, 2.95, 0])


def test_whitened_means_mean_0_and_variance_1():
    x, _, mask = example()
    white = whiten(3 * x + 7, mask)
    assert white[mask].mean().item() == pytest.approx(0, abs=1e-9)
    assert white[mask].var(correction=0).item() == pytest.approx(1, abs=1e-6)
    assert white[~mask].abs().max() == 0


def test_a_constant_whitens_to_0():
    _, _, mask = example()
    assert whiten(torch.full((3, 6), 4.2, dtype=torch.float64), mask).abs().max() == 0


@pytest.mark.parametrize("poison", [1e6, float("nan"), float("inf")])
def test_what_the_mask_hides_changes_nothing(poison):
    rewards, values, mask = example()
    dirty_rewards, dirty_values = (torch.where(mask, x, poison) for x in (rewards, values))
    clean, dirty = (gae(r, v, mask, gamma=0.9, lam=0.7) for r, v in ((rewards, values), (dirty_rewards, dirty_values)))
    assert torch.equal(clean[0], dirty[0]) and torch.equal(clean[1], dirty[1])
    assert torch.equal(whiten(rewards, mask), whiten(dirty_rewards, mask))
    scores = torch.ones(3, dtype=torch.float64)
    clean_rewards, dirtied = (per_token_rewards(scores, kl, mask, kl_coef=0.1) for kl in (rewards, dirty_rewards))
    assert torch.equal(clean_rewards, dirtied)


def test_kl_estimates_against_the_exact_sum():
    """On five tokens the KL is a sum of five terms, and so are the means of both estimates under the policy."""
    policy = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05], dtype=torch.float64)
    reference = torch.tensor([0.1, 0.2, 0.3, 0.25, 0.15], dtype=torch.float64)
    exact = sum(
        p * (torch.log(torch.tensor(p)) - torch.log(torch.tensor(q)))
        for p, q in zip(policy.tolist(), reference.tolist(), strict=True)
    ).item()
    logs = policy.log()[None], reference.log()[None]
    assert (policy * k1(*logs)).sum().item() == pytest.approx(exact, abs=1e-7)
    assert (policy * k3(*logs)).sum().item() == pytest.approx(exact, abs=1e-7)
    assert k3(*logs).min().item() >= 0
    # ln(.4 / .1) = ln 4 and .25 - 1 + ln 4
    assert k1(*logs)[0, 0].item() == pytest.approx(1.3862943611, abs=1e-9)
    assert k3(*logs)[0, 0].item() == pytest.approx(0.6362943611, abs=1e-9)


def test_kl_estimates_of_samples_are_unbiased():
    """10,000 draws: each mean lies within three standard errors of the exact KL."""
    policy = torch.tensor([0.5, 0.5], dtype=torch.float64)
    reference = torch.tensor([0.8, 0.2], dtype=torch.float64)
    # .5 ln(.5 / .8) + .5 ln(.5 / .2) = -.2350 + .4581
    exact = 0.2231435513
    drawn = torch.multinomial(policy, 10_000, replacement=True, generator=torch.Generator().manual_seed(0))
    logs = policy.log()[drawn][None], reference.log()[drawn][None]
    for estimate in (k1(*logs), k3(*logs)):
        error = (estimate.mean() - exact).abs().item()
        assert error < 3 * estimate.std().item() / 100


def test_adaptive_kl_by_hand():
    control = AdaptiveKL(kl_coef=0.2, target=4.0, horizon=1000)
    control.update(8.0, 100)
    # the error 8/4 - 1 = 1 counts as 0.2: 0.2 * (1 + 0.2 * 100 / 1000)
    assert control.value == pytest.approx(0.204)
    control.update(4.0, 100)
    assert control.value == pytest.approx(0.204)
    control.update(3.6, 500)
    # 0.204 * (1 - 0.1 / 2)
    assert control.value == pytest.approx(0.1938)


def test_fixed_kl_stays():
    control = FixedKL(kl_coef=0.2)
    control.update(100.0, 100)
    assert control.value == 0.2
