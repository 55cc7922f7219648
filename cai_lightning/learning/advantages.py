"""From scores and log-probabilities to advantages: KL estimates, per-token rewards, estimators, whitening, KL control.

Pure functions on [row, step] tensors; a mask marks the response tokens of a row, one unbroken run each. What lies
outside the mask, NaN included, never changes a result. An estimator (`generalised`, `leave_one_out`,
`group_normalised`) turns rewards, values and mask, with the number of neighbouring rows that reply to one prompt, into
advantages and the returns that a value head learns.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cai_lightning.learning.losses import masked_mean

Row = Float[Tensor, " row"]
Steps = Float[Tensor, "row step"]
Mask = Bool[Tensor, "row step"]

_TINY = 1e-8  # keeps a constant signal at zero instead of 0/0


def k1(logps: Steps, reference_logps: Steps) -> Steps:
    """The KL to the reference, nats per token, estimated by the log-ratio: unbiased, may be negative.

    Both log-probabilities are of tokens that the policy sampled. Source: Schulman 2020, "Approximating KL divergence".
    """
    return logps - reference_logps


def k3(logps: Steps, reference_logps: Steps) -> Steps:
    """The KL to the reference, nats per token, estimated by r - 1 - ln r with r = reference/policy: unbiased, >= 0.

    Source: Schulman 2020, "Approximating KL divergence".
    """
    log_ratio = reference_logps - logps
    return torch.expm1(log_ratio) - log_ratio


def per_token_rewards(scores: Row, kl: Steps, mask: Mask, *, kl_coef: float) -> Steps:
    """The reward of every response token: -kl_coef times its KL, and the row's score on its last real token.

    Source: Ziegler et al. 2019, eq. 2 (spread over tokens).
    """
    step = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, step, -1).amax(1, keepdim=True)
    rewards = torch.where(mask, -kl_coef * kl, 0.0)
    return rewards + torch.where(mask & (step == last), scores[:, None], 0.0)


def gae(rewards: Steps, values: Steps, mask: Mask, *, gamma: float, lam: float) -> tuple[Steps, Steps]:
    """Generalised advantages and the returns (advantage + value) that the value head learns; 0 outside the mask.

    The value after a row's last token is 0: the episode is over. Source: Schulman et al. 2015, eq. 16.
    """
    rewards, values = torch.where(mask, rewards, 0.0), torch.where(mask, values, 0.0)
    advantages = torch.zeros_like(rewards)
    next_value = next_advantage = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        next_advantage = torch.where(mask[:, t], delta + gamma * lam * next_advantage, 0.0)
        advantages[:, t] = next_advantage
        next_value = values[:, t]
    return advantages, advantages + values


def whiten(x: Steps, mask: Mask) -> Steps:
    """`x` shifted and scaled to mean 0 and (population) variance 1 over the mask; 0 outside it."""
    centred = torch.where(mask, x - masked_mean(x, mask), 0.0)
    return centred / (masked_mean(centred**2, mask) + _TINY).sqrt()


def generalised(
    rewards: Steps,
    values: Steps,
    mask: Mask,
    samples: int,  # noqa: ARG001
    *,
    gamma: float,
    lam: float,
) -> tuple[Steps, Steps]:
    """PPO's advantages, whitened over the whole collection, and returns; how many rows share a prompt plays no part."""
    advantages, returns = gae(rewards, values, mask, gamma=gamma, lam=lam)
    return whiten(advantages, mask), returns


def leave_one_out(rewards: Steps, values: Steps, mask: Mask, samples: int) -> tuple[Steps, Steps]:
    """A reply's summed reward less the mean of its siblings', on each of its tokens; returns are 0, for nobody learns
    values.

    Raises ValueError on a single reply a prompt. Source: Ahmadian et al. 2024 (RLOO), sec. 2.4; Kool et al. 2019.
    """
    total = _totals(rewards, mask, samples)
    others = (total.sum(1, keepdim=True) - total) / (samples - 1)
    return _spread(total - others, mask), torch.zeros_like(values)


def group_normalised(rewards: Steps, values: Steps, mask: Mask, samples: int, *, scaled: bool) -> tuple[Steps, Steps]:
    """A reply's summed reward less the mean of its prompt's replies, on each of its tokens; `scaled`: over their
    (population) standard deviation too, which weighs prompts alike whose replies hardly differ. Returns are 0.

    Raises ValueError on a single reply a prompt. Source: Shao et al. 2024 (GRPO), sec. 4.1.2; unscaled Liu et al. 2025
    (Dr. GRPO).
    """
    total = _totals(rewards, mask, samples)
    centred = total - total.mean(1, keepdim=True)
    if scaled:
        centred = centred / (centred.square().mean(1, keepdim=True) + _TINY).sqrt()
    return _spread(centred, mask), torch.zeros_like(values)


def _totals(rewards: Steps, mask: Mask, samples: int) -> Tensor:
    """The summed reward [prompt, sample] of each reply."""
    if samples < 2:
        raise ValueError(f"samples is {samples}, but this estimator compares replies to one prompt: give at least 2")
    return torch.where(mask, rewards, 0.0).sum(1).view(-1, samples)


def _spread(of_replies: Tensor, mask: Mask) -> Steps:
    return torch.where(mask, of_replies.reshape(-1, 1), 0.0)


class FixedKL:
    """A KL coefficient that stays as configured."""

    def __init__(self, *, kl_coef: float) -> None:
        self.value = kl_coef

    def update(self, kl: float, n: int) -> None:
        """Leaves the coefficient alone."""

    def state_dict(self) -> dict[str, float]:
        """Nothing: the recipe has the coefficient."""
        return {}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Has nothing to take over."""


class AdaptiveKL:
    """A KL coefficient that moves with the error, in log space, so that the sequence KL nears `target` nats.

    Source: Ziegler et al. 2019, sec. 2.2; `horizon` is in sequences.
    """

    def __init__(self, *, kl_coef: float, target: float, horizon: int) -> None:
        self.value = kl_coef
        self._target = target
        self._horizon = horizon

    def update(self, kl: float, n: int) -> None:
        """Moves the coefficient after `n` sequences of mean KL `kl` nats; the error counts at most 20 %."""
        error = min(max(kl / self._target - 1, -0.2), 0.2)
        self.value *= 1 + error * n / self._horizon

    def state_dict(self) -> dict[str, float]:
        """The coefficient as it is."""
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Takes the coefficient over."""
        self.value = state["value"]
