"""What a PPO iteration has collected, from all processes together, and what it is worth: advantages and figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from cai_lightning.learning.advantages import k1, k3, per_token_rewards
from cai_lightning.learning.losses import masked_mean
from cai_lightning.models.packing import Tree
from cai_lightning.models.sampler import Sampled

Estimator = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""(rewards, values, mask [reply, step], replies a prompt) -> advantages, returns."""


class Steps(NamedTuple):
    """Which steps replies have, and figures of them, [reply, step] all."""

    mask: Tensor
    logps: Tensor
    values: Tensor
    entropy: Tensor
    reference: Tensor


class Part(NamedTuple):
    """What one process has collected: the trees so numbered of the iteration, their replies and scores, on the CPU.

    `members` are the scores of each reward model by its name, where `scores` are made of several. `heldout` are those
    of a judge that is not maximised; none where there is no such judge.
    """

    numbers: list[int]
    trees: list[Tree]
    ended: list[bool]
    replies: list[str]
    scores: list[float]
    members: dict[str, list[float]]
    heldout: list[float]
    steps: Steps


def joined(parts: Sequence[Part], samples: int) -> Part:
    """The parts of all processes as one, in the order of the trees' numbers."""
    if len(parts) == 1:
        return parts[0]
    places = sorted((number, part, at) for part, given in enumerate(parts) for at, number in enumerate(given.numbers))
    rows = [(part, at * samples + sample) for _, part, at in places for sample in range(samples)]
    width = max(part.steps.mask.shape[1] for part in parts)
    wide = [[pad(whole, (0, width - whole.shape[1])) for whole in part.steps] for part in parts]
    return Part(
        numbers=[number for number, _, _ in places],
        trees=[parts[part].trees[at] for _, part, at in places],
        ended=[parts[part].ended[row] for part, row in rows],
        replies=[parts[part].replies[row] for part, row in rows],
        scores=[parts[part].scores[row] for part, row in rows],
        members={name: [parts[part].members[name][row] for part, row in rows] for name in parts[0].members},
        heldout=[parts[part].heldout[row] for part, row in rows] if parts[0].heldout else [],
        steps=Steps(
            *(torch.stack([wide[part][kind][row] for part, row in rows]) for kind in range(len(Steps._fields)))
        ),
    )


def rewarded(
    found: Part, scores: Tensor, estimator: Estimator, *, kl_coef: float, samples: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, advantages and returns [reply, step] of replies with these final scores."""
    steps = found.steps
    rewards = per_token_rewards(scores, k1(steps.logps, steps.reference), steps.mask, kl_coef=kl_coef)
    return rewards, *estimator(rewards, steps.values, steps.mask, samples)


def figures(found: Part, rewards: Tensor, returns: Tensor) -> dict[str, float]:
    """The figures of an iteration, by TRL's names where it has one; `_se` are standard errors of means over replies.

    `objective/scores/<name>` is the mean score of one of several reward models.
    """
    steps, mask = found.steps, found.steps.mask
    kl, lengths = torch.where(mask, k1(steps.logps, steps.reference), 0.0).sum(1), mask.sum(1).float()
    stats = {
        "objective/kl": kl.mean(),
        "objective/kl_se": _standard_error(kl),
        "objective/kl_k3": torch.where(mask, k3(steps.logps, steps.reference), 0.0).sum(1).mean(),
        "objective/rlhf_reward": rewards.sum(1).mean(),
        "policy/entropy_avg": masked_mean(steps.entropy, mask),
        "val/values": masked_mean(steps.values, mask),
        "val/returns": masked_mean(returns, mask),
        "eos_rate": torch.tensor(found.ended).float().mean(),
        "completions/mean_length": lengths.mean(),
        "completions/max_length": lengths.max(),
    }
    for name, values in (("objective/scores", found.scores), ("heldout/scores", found.heldout)):
        if values:
            stats[name] = torch.tensor(values).mean()
            stats[f"{name}_se"] = _standard_error(torch.tensor(values))
    for name, values in found.members.items():
        stats[f"objective/scores/{name}"] = torch.tensor(values).mean()
    return {name: value.item() for name, value in stats.items()}


def _standard_error(values: Tensor) -> Tensor:
    return values.std(correction=0) / math.sqrt(len(values))


def reply_mask(lengths: Sequence[int]) -> Tensor:
    """Which steps [reply, step] there are."""
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def ended(sampled: Sequence[Sampled]) -> list[bool]:
    """Whether each reply stopped by itself."""
    return [row.finish == "stop" for row in sampled]
