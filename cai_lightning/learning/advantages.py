"""From scores and log-probabilities to advantages: KL estimates, per-token rewards, GAE, whitening, KL control.

Pure functions on [row, step] tensors; a mask marks the response tokens of a row, one unbroken run each. What lies
outside the mask, NaN included, never changes a result.
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
