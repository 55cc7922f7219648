"""Losses of policies that learn from their own replies, and how much each token of a minibatch weighs in them.

Pure functions on [row, step] tensors; a mask marks the response tokens of a row.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cai_lightning.learning.losses import LossOutput, detached, masked_mean

Steps = Float[Tensor, "row step"]
Mask = Bool[Tensor, "row step"]
Scalar = Float[Tensor, ""]


def by_token(mask: Mask, tokens: Scalar) -> Steps:
    """The weight of each step of a minibatch where every token counts alike: one over `tokens`, those of all of it.

    Source: the mean of Ziegler et al. 2019's code, and of Yu et al. 2025 (DAPO), eq. 12.
    """
    return mask / tokens


def by_reply(mask: Mask, tokens: Scalar) -> Steps:  # noqa: ARG001
    """The weight of each step where every reply counts alike, whatever its length. Source: Shao et al. 2024, eq. 3."""
    return mask / (mask.sum(1, keepdim=True).clamp(min=1) * len(mask))


def by_length(mask: Mask, tokens: Scalar, *, length: int) -> Steps:  # noqa: ARG001
    """The weight of each step where a reply's tokens are summed: one over replies times a fixed `length`.

    Source: Liu et al. 2025 (Dr. GRPO), eq. 4; with `length` 1 the sum over a sequence of REINFORCE (RLOO).
    """
    return mask / (len(mask) * length)


def weighed(x: Steps, mask: Mask, weights: Steps) -> Scalar:
    """The weighted sum of `x` where the mask is set; what lies elsewhere, NaN included, never enters it."""
    return (torch.where(mask, x, 0.0) * weights).sum()


def ppo_policy_loss(
    logps: Steps, old_logps: Steps, advantages: Steps, mask: Mask, weights: Steps, *, clip_range: float
) -> LossOutput:
    """The clipped surrogate loss, summed by the weights of response tokens; advantages are in their own unit.

    Source: Schulman et al. 2017, eq. 7 (sign turned: smaller is better).
    """
    # Masked before exp: a where() behind it would still send 0 * inf = NaN into the gradient.
    log_ratio = torch.where(mask, logps - old_logps, 0.0)
    advantages = torch.where(mask, advantages, 0.0)
    ratio = log_ratio.exp()
    free, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
    metrics = {
        "policy/clipfrac_avg": masked_mean((clipped > free).to(ratio.dtype), mask),
        "policy/approxkl_avg": masked_mean(0.5 * log_ratio**2, mask),
        "val/ratio": masked_mean(ratio, mask),
    }
    return LossOutput(weighed(torch.maximum(free, clipped), mask, weights), detached(metrics))


def ppo_value_loss(
    values: Steps, old_values: Steps, returns: Steps, mask: Mask, weights: Steps, *, value_clip: float
) -> LossOutput:
    """Half the squared error of the values, summed by the weights of response tokens; moves beyond `value_clip` earn
    nothing.

    Source: the PPO code of Schulman et al. 2017 (openai/baselines ppo2); not in the paper.
    """
    error = torch.where(mask, values - returns, 0.0)
    move = torch.where(mask, values - old_values, 0.0)
    # old + clamp(move) - return, written from the two masked differences.
    clipped = error - move + move.clamp(-value_clip, value_clip)
    loss = 0.5 * weighed(torch.maximum(error**2, clipped**2), mask, weights)
    # a move inside the range leaves the error as it is, but for rounding, which is no clipping
    bound = (move.abs() > value_clip) & (clipped**2 > error**2)
    metrics = {"val/clipfrac_avg": masked_mean(bound.to(error.dtype), mask)}
    return LossOutput(loss, detached(metrics))


def kl_loss(logps: Steps, reference_logps: Steps, mask: Mask, weights: Steps) -> Scalar:
    """The KL to the reference (k3), summed by the weights of response tokens, in nats; its gradient is the policy's.

    Source: Shao et al. 2024 (GRPO), eq. 3 and 4.
    """
    # masked before exp, or a gradient of 0 * inf would be NaN
    log_ratio = torch.where(mask, reference_logps - logps, 0.0)
    return weighed(torch.expm1(log_ratio) - log_ratio, mask, weights)
