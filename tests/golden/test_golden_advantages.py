"""Advantages, KL estimates and KL control against slow loops, exact sums and numbers worked by hand."""

import pytest
import torch

from cai_lightning.learning.advantages import (
    AdaptiveKL,
    FixedKL,
    gae,
    generalised,
    group_normalised,
    k1,
    k3,
    leave_one_out,
    per_token_rewards,
    whiten,
)


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


def siblings():
    """Two prompts with three replies each, whose rewards sum to 1, 2, 6 and 0, 0, 3; steps beyond a reply are NaN."""
    mask = torch.tensor([[1, 1], [1, 0], [1, 1], [1, 0], [1, 1], [1, 1]], dtype=torch.bool)
    nan = float("nan")
    rewards = torch.tensor([[2, -1], [2, nan], [1, 5], [0, nan], [-1, 1], [0, 3]], dtype=torch.float64)
    return rewards, torch.full((6, 2), nan, dtype=torch.float64), mask


def test_a_reply_is_measured_against_its_siblings():
    """1 against (2 + 6) / 2 is -3, 2 against 3.5 is -1.5, 6 against 1.5 is 4.5; 0, 0, 3 give -1.5, -1.5 and 3."""
    rewards, values, mask = siblings()
    advantages, returns = leave_one_out(rewards, values, mask, 3)
    expected = [[-3, -3], [-1.5, 0], [4.5, 4.5], [-1.5, 0], [-1.5, -1.5], [3, 3]]
    assert advantages.tolist() == expected and returns.abs().max() == 0


def test_a_reply_is_measured_by_its_group():
    """Means 3 and 1; variances (4 + 1 + 9) / 3 and (1 + 1 + 4) / 3."""
    rewards, values, mask = siblings()
    plain, _ = group_normalised(rewards, values, mask, 3, scaled=False)
    assert plain[:, 0].tolist() == [-2, -1, 3, -1, -1, 2]
    scaled, returns = group_normalised(rewards, values, mask, 3, scaled=True)
    first, second = (14 / 3) ** 0.5, 2**0.5
    expected = [-2 / first, -1 / first, 3 / first, -1 / second, -1 / second, 2 / second]
    assert scaled[:, 0].tolist() == pytest.approx(expected, abs=1e-7) and returns.abs().max() == 0
    assert scaled[1, 1] == 0 and scaled[0, 1] == scaled[0, 0]


def test_equal_replies_teach_nothing():
    mask = torch.ones(4, 1, dtype=torch.bool)
    rewards = torch.full((4, 1), 2.5, dtype=torch.float64)
    for advantages, _ in (
        leave_one_out(rewards, rewards, mask, 2),
        group_normalised(rewards, rewards, mask, 4, scaled=True),
    ):
        assert advantages.abs().max() == 0


def test_leaving_one_out_keeps_the_gradient_and_costs_variance_less():
    """Over all pairs of draws from five tokens: the mean gradient is that without a baseline, the variance is less."""
    logits = torch.tensor([0.3, -1.0, 0.7, 0.0, 1.1], dtype=torch.float64)
    probabilities, reward = logits.softmax(0), torch.tensor([5.0, 3.0, 4.5, 7.0, 3.0], dtype=torch.float64)
    scores = torch.eye(5, dtype=torch.float64) - probabilities  # the gradient of each token's log-probability
    mask = torch.ones(2, 1, dtype=torch.bool)

    def moments(advantages_of):
        mean, square = torch.zeros(5, dtype=torch.float64), 0.0
        for one in range(5):
            for other in range(5):
                chance = probabilities[one] * probabilities[other]
                advantages = advantages_of(reward[[one, other]][:, None])
                gradient = (advantages[0] * scores[one] + advantages[1] * scores[other]) / 2
                mean += chance * gradient
                square += chance * gradient.square().sum()
        return mean, square - mean.square().sum()

    with_siblings, less = moments(lambda r: leave_one_out(r, r, mask, 2)[0])
    alone, more = moments(lambda r: r)
    assert with_siblings.tolist() == pytest.approx(alone.tolist(), abs=1e-12)
    assert less < 0.5 * more


@pytest.mark.parametrize("estimate", [leave_one_out, lambda *given: group_normalised(*given, scaled=True)])
def test_a_single_reply_has_nothing_to_be_compared_with(estimate):
    mask = torch.ones(2, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="samples is 1, but this estimator compares replies to one prompt"):
        estimate(mask.double(), mask.double(), mask, 1)


def test_generalised_advantages_are_white():
    rewards, values, mask = example()
    advantages, returns = generalised(rewards, values, mask, 1, gamma=0.9, lam=0.7)
    plain, expected = gae(rewards, values, mask, gamma=0.9, lam=0.7)
    assert torch.equal(returns, expected) and torch.equal(advantages, whiten(plain, mask))


def test_kl_control_goes_on_from_its_state():
    one, other = (AdaptiveKL(kl_coef=0.1, target=6.0, horizon=100) for _ in range(2))
    one.update(12.0, 50)
    other.load_state_dict(one.state_dict())
    assert other.value == one.value == pytest.approx(0.1 * (1 + 0.2 * 0.5))
    FixedKL(kl_coef=0.1).load_state_dict(FixedKL(kl_coef=0.1).state_dict())
