"""What processes have collected, put together, against one process that collected it all."""

from __future__ import annotations

import math

import pytest
import torch

from cai_lightning.learning.collection import Part, Steps, figures, joined, reply_mask, rewarded
from cai_lightning.models.packing import Tree


def part(numbers, lengths, heldout=True):
    """Two replies to each tree: reply r of tree t has the score 10 t + r and the figure 100 t + 10 r + step."""
    rows = [(tree, reply) for tree in numbers for reply in range(2)]
    mask = reply_mask(lengths)
    values = torch.tensor([[100.0 * tree + 10 * reply + step for step in range(mask.shape[1])] for tree, reply in rows])
    return Part(
        numbers=numbers,
        trees=[Tree([tree], [[1], [2]]) for tree in numbers],
        ended=[reply == 0 for _, reply in rows],
        replies=[f"{tree}/{reply}" for tree, reply in rows],
        scores=[10.0 * tree + reply for tree, reply in rows],
        members={"first": [20.0 * tree for tree, _ in rows], "x": [2.0 * reply for _, reply in rows]}
        if heldout
        else {},
        heldout=[-10.0 * tree for tree, _ in rows] if heldout else [],
        steps=Steps(mask, *[torch.where(mask, values, 0.0)] * 4),
    )


@pytest.mark.parametrize("heldout", [True, False])
def test_the_parts_of_processes_stand_in_the_order_of_all(heldout):
    whole = part([0, 1, 2], [1, 2, 4, 1, 3, 3], heldout)
    parts = [part([0, 2], [1, 2, 3, 3], heldout), part([1], [4, 1], heldout)]
    found = joined(parts, 2)
    assert found[:-1] == whole[:-1]
    assert all(torch.equal(one, other) for one, other in zip(found.steps, whole.steps, strict=True))
    assert joined([whole], 2) is whole


def test_figures_by_hand():
    """Four replies of 1, 2, 1 and 1 tokens, log-ratios 1; -1 and 3; 0; 2: sums 1, 2, 0, 2."""
    mask = reply_mask([1, 2, 1, 1])
    logps = torch.tensor([[1.0, math.nan], [-1.0, 3.0], [0.0, math.nan], [2.0, math.nan]])
    zeros = torch.zeros(4, 2)
    steps = Steps(mask, logps, zeros + 0.5, torch.where(mask, 3.0, math.nan), zeros)
    found = part([0, 1], [1, 2, 1, 1])._replace(steps=steps)
    rewards = torch.where(mask, 2.0, 0.0)
    stats = figures(found, rewards, zeros)
    assert stats["objective/kl"] == 1.25
    # variance of 1, 2, 0, 2 is 11/16; over four replies
    assert stats["objective/kl_se"] == pytest.approx((11 / 16) ** 0.5 / 2)
    assert stats["objective/rlhf_reward"] == pytest.approx((2 + 4 + 2 + 2) / 4)
    assert stats["policy/entropy_avg"] == 3.0 and stats["val/values"] == 0.5
    assert stats["eos_rate"] == 0.5 and stats["completions/max_length"] == 2
    assert stats["objective/scores"] == pytest.approx(5.5) and stats["heldout/scores"] == -5.0
    assert stats["heldout/scores_se"] == pytest.approx(5.0 / 2)
    assert (stats["objective/scores/first"], stats["objective/scores/x"]) == (10.0, 1.0)
    assert all(math.isfinite(value) for value in stats.values())


def test_rewards_go_to_the_estimator_with_the_kl_taken_off():
    found = part([0], [2, 1])
    steps = found.steps._replace(logps=torch.tensor([[1.0, 2.0], [3.0, 0.0]]), reference=torch.zeros(2, 2))

    def estimator(rewards, values, mask, samples):
        assert samples == 2 and torch.equal(mask, steps.mask)
        return rewards + 1, values

    rewards, advantages, returns = rewarded(
        found._replace(steps=steps), torch.tensor([5.0, 7.0]), estimator, kl_coef=0.5, samples=2
    )
    assert rewards.tolist() == [[-0.5, 4.0], [5.5, 0.0]]
    assert torch.equal(advantages, rewards + 1) and torch.equal(returns, steps.values)
