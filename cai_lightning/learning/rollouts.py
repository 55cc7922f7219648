"""What a PPO iteration learns from: replies sampled by the policy, scored as text, turned into advantages.

One Lightning epoch is one iteration: iterating over a `RolloutLoader` collects once, from the policy as it is then,
and yields shuffled minibatches. Everything drawn is a function of (seed, iteration, row).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from cai_lightning.learning.advantages import gae, k1, k3, per_token_rewards, whiten
from cai_lightning.learning.losses import masked_mean
from cai_lightning.learning.ppo import PPOModule, RolloutBatch
from cai_lightning.models.causal import eos_ids, evaluating, pad_id
from cai_lightning.models.encoding import decode
from cai_lightning.models.format import Format
from cai_lightning.models.logprobs import pad_rows
from cai_lightning.models.noise import row_key
from cai_lightning.models.sampler import Sampled, sample
from cai_lightning.text.dialogue import Dialogue


class RolloutPrompt(NamedTuple):
    """A prompt by id, as dialogue, and as ids that end where the reply begins."""

    id: str
    dialogue: Dialogue
    ids: list[int]


class KLControl(Protocol):
    """The KL coefficient in reward per nat, and how it moves after an iteration."""

    value: float

    def update(self, kl: float, n: int) -> None: ...


def draw(prompts: int, count: int, *, seed: int, iteration: int) -> list[int]:
    """The prompt numbers of an iteration: shuffled passes over all prompts, cut into pieces of `count`."""
    picked: list[int] = []
    for place in range(iteration * count, (iteration + 1) * count):
        lap, at = divmod(place, prompts)
        if not picked or at == 0:
            order = random.Random(f"{seed}/{lap}").sample(range(prompts), prompts)
        picked.append(order[at])
    return picked


@dataclass(kw_only=True)
class Collector:
    """Collects one iteration's rollouts from the policy of `module`.

    `reference(input_ids, mask)` gives the reference's log-probabilities [row, step] of the tokens that a [row, token]
    mask marks, at the same temperature. `score(dialogues, replies)` reads words. A score then goes through
    `transform`, loses `missing_eos_penalty` where the reply was cut at `max_new_tokens`, and goes through `scaling`.
    `observe(iteration, prompts, replies, scores)` sees the words. `sample_rows` and `forward_rows` bound memory.

    It is called with gradients on, the module in train mode and outside autocast, and cares for all three. The old
    log-probabilities come from a forward pass as in training: a sampler's own differ by rounding.
    """

    module: PPOModule
    reference: Callable[[Tensor, Tensor], Tensor]
    prompts: Sequence[RolloutPrompt]
    tokenizer: PreTrainedTokenizerBase
    score: Callable[[list[Dialogue], list[str]], list[float]]
    transform: Callable[[Tensor], Tensor]
    scaling: Callable[[Tensor], Tensor]
    kl: KLControl
    observe: Callable[[int, list[RolloutPrompt], list[str], list[float]], None]
    rollouts: int
    sample_rows: int
    forward_rows: int
    multiple: int
    max_new_tokens: int
    temperature: float
    missing_eos_penalty: float
    gamma: float
    lam: float
    seed: int
    history: list[dict[str, float]] = field(default_factory=list, init=False)

    def __call__(self, iteration: int) -> RolloutBatch:
        """The rollouts of iteration `iteration` (from 0); their figures go to the loggers and to `history`."""
        drawn = draw(len(self.prompts), self.rollouts, seed=self.seed, iteration=iteration)
        prompts = [self.prompts[number] for number in drawn]
        with torch.no_grad(), evaluating(self.module):
            with self.module.trainer.precision_plugin.forward_context():
                sampled = self._sample(prompts, iteration)
                steps = self._forward(prompts, sampled)
            replies = self._replies(prompts, sampled)
            scores = self.score([prompt.dialogue for prompt in prompts], replies)
            _check_scores(prompts, scores)
            self.observe(iteration, prompts, replies, scores)
            batch, stats = self._advantages(steps, torch.tensor(scores), sampled)
        stats["episode"] = float((iteration + 1) * self.rollouts)
        self.history.append(stats)
        for logger in self.module.trainer.loggers:
            logger.log_metrics(stats, step=self.module.trainer.global_step)
        return batch

    def _sample(self, prompts: list[RolloutPrompt], iteration: int) -> list[Sampled]:
        policy = self.module.policy
        eos = eos_ids(self.tokenizer, policy)
        keys = [row_key(f"ppo/{iteration}/{row}") for row in range(len(prompts))]
        # Neighbours of one length need no pads.
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row].ids))
        sampled: dict[int, Sampled] = {}
        for start in range(0, len(order), self.sample_rows):
            rows = order[start : start + self.sample_rows]
            out = sample(
                policy,
                [prompts[row].ids for row in rows],
                row_keys=[keys[row] for row in rows],
                seed=self.seed,
                temperature=self.temperature,
                max_new_tokens=self.max_new_tokens,
                eos=eos,
                stop=None,
            )
            sampled.update(zip(rows, out, strict=True))
        return [sampled[row] for row in range(len(prompts))]

    def _replies(self, prompts: list[RolloutPrompt], sampled: list[Sampled]) -> list[str]:
        format = Format(self.tokenizer)
        texts = [decode(self.tokenizer, row.ids) for row in sampled]
        return [format.reply(prompt.dialogue, text) for prompt, text in zip(prompts, texts, strict=True)]

    def _forward(self, prompts: list[RolloutPrompt], sampled: list[Sampled]) -> _Steps:
        ids = [prompt.ids + row.ids for prompt, row in zip(prompts, sampled, strict=True)]
        input_ids = pad_rows(ids, pad_id(self.tokenizer), self.multiple).to(self.module.device)
        place = torch.arange(input_ids.shape[1])
        starts = torch.tensor([len(prompt.ids) for prompt in prompts])[:, None]
        ends = torch.tensor([len(row) for row in ids])[:, None]
        mask = ((place >= starts) & (place < ends)).to(self.module.device)
        steps = _Steps(input_ids, mask[:, 1:], *torch.zeros(4, len(ids), input_ids.shape[1] - 1, device=mask.device))
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        for start in range(0, len(order), self.forward_rows):
            rows = torch.tensor(order[start : start + self.forward_rows], device=mask.device)
            width = -(-len(ids[order[start : start + self.forward_rows][-1]]) // self.multiple) * self.multiple
            part, part_mask = input_ids[rows, :width], mask[rows, :width]
            found = self.module.forward_with_entropy(part, part_mask[:, 1:])
            for whole, values in zip(steps[2:], (*found, self.reference(part, part_mask)), strict=True):
                whole[rows, : width - 1] = values
        return steps

    def _advantages(
        self, steps: _Steps, scores: Tensor, sampled: list[Sampled]
    ) -> tuple[RolloutBatch, dict[str, float]]:
        mask = steps.mask
        ended = torch.tensor([row.finish == "stop" for row in sampled])
        rewarded = self.transform(scores) - self.missing_eos_penalty * (~ended).float()
        log_ratio = k1(steps.logps, steps.reference)
        rewards = per_token_rewards(self.scaling(rewarded).to(mask.device), log_ratio, mask, kl_coef=self.kl.value)
        advantages, returns = gae(rewards, steps.values, mask, gamma=self.gamma, lam=self.lam)
        lengths = mask.sum(1).float()
        stats = {
            "objective/kl": log_ratio.sum(1).mean(),
            "objective/kl_k3": (k3(steps.logps, steps.reference) * mask).sum(1).mean(),
            "objective/scores": scores.mean(),
            "objective/rlhf_reward": rewards.sum(1).mean(),
            "policy/entropy_avg": masked_mean(steps.entropy, mask),
            "val/values": masked_mean(steps.values, mask),
            "val/returns": masked_mean(returns, mask),
            "eos_rate": ended.float().mean(),
            "completions/mean_length": lengths.mean(),
            "completions/max_length": lengths.max(),
        }
        figures = {name: value.item() for name, value in stats.items()} | {"objective/kl_coef": self.kl.value}
        self.kl.update(figures["objective/kl"], len(sampled))
        rows = torch.arange(len(sampled), device=mask.device)
        white = whiten(advantages, mask)
        return RolloutBatch(steps.input_ids, mask, steps.logps, steps.values, white, returns, rows), figures


class _Steps(NamedTuple):
    """Ids [row, token]; mask and figures [row, step]."""

    input_ids: Tensor
    mask: Tensor
    logps: Tensor
    values: Tensor
    entropy: Tensor
    reference: Tensor


class RolloutLoader:
    """Iterating is one PPO iteration: collect, then `ppo_epochs` shuffled passes in minibatches of `minibatch` rows.

    Lightning sees an ordinary iterable of known length, so clipping, accumulation and precision stay automatic. The
    iteration is the module's epoch.
    """

    def __init__(
        self,
        module: LightningModule,
        collect: Callable[[int], RolloutBatch],
        *,
        rollouts: int,
        minibatch: int,
        ppo_epochs: int,
        multiple: int,
        seed: int,
    ) -> None:
        if rollouts % minibatch:
            raise ValueError(f"rollouts ({rollouts}) must be a multiple of minibatch ({minibatch})")
        self._module = module
        self._collect = collect
        self._rollouts = rollouts
        self._minibatch = minibatch
        self._ppo_epochs = ppo_epochs
        self._multiple = multiple
        self._seed = seed

    def __len__(self) -> int:
        return self._ppo_epochs * self._rollouts // self._minibatch

    def __iter__(self) -> Iterator[RolloutBatch]:
        iteration = self._module.current_epoch
        batch = self._collect(iteration)
        rng = random.Random(f"{self._seed}/{iteration}")
        for _ in range(self._ppo_epochs):
            order = rng.sample(range(self._rollouts), self._rollouts)
            for start in range(0, self._rollouts, self._minibatch):
                yield select(batch, order[start : start + self._minibatch], multiple=self._multiple)


def select(batch: RolloutBatch, rows: list[int], *, multiple: int) -> RolloutBatch:
    """The rows so numbered, cut to the longest of them, rounded up to a multiple of `multiple` tokens."""
    index = torch.tensor(rows, device=batch.mask.device)
    last = int(batch.mask[index].any(0).nonzero().max()) + 2
    width = min(-(-last // multiple) * multiple, batch.input_ids.shape[1])
    cut = [whole[index, : width - 1] for whole in batch[1:-1]]
    return RolloutBatch._make([batch.input_ids[index, :width], *cut, batch.rows[index]])


def _check_scores(prompts: list[RolloutPrompt], scores: list[float]) -> None:
    for prompt, value in zip(prompts, scores, strict=True):
        if not math.isfinite(value):
            raise ValueError(f"the reward of a reply to prompt {prompt.id!r} is {value}: check the reward model")
