"""What a PPO iteration learns from: replies sampled by the policy, scored as text, turned into advantages.

One Lightning epoch is one iteration: iterating over a `RolloutLoader` collects once, from the policy as it is then,
and yields shuffled minibatches. Everything drawn is a function of (seed, iteration, row).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from cai_lightning.learning.advantages import gae, k1, k3, per_token_rewards, whiten
from cai_lightning.learning.losses import masked_mean
from cai_lightning.learning.ppo import PPOModule
from cai_lightning.learning.rollout_loader import Read, Rollouts, rows_of
from cai_lightning.models.causal import eos_ids, evaluating
from cai_lightning.models.encoding import decode
from cai_lightning.models.engine import drawer
from cai_lightning.models.format import Format
from cai_lightning.models.logprobs import place
from cai_lightning.models.noise import row_key
from cai_lightning.models.packing import Packed, Route, Tree, pack
from cai_lightning.models.sampler import Sampled
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

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def draw(prompts: int, count: int, *, seed: int, iteration: int) -> list[int]:
    """The prompt numbers of an iteration: shuffled passes over all prompts, cut into pieces of `count`."""
    picked: list[int] = []
    for number in range(iteration * count, (iteration + 1) * count):
        lap, at = divmod(number, prompts)
        if not picked or at == 0:
            order = random.Random(f"{seed}/{lap}").sample(range(prompts), prompts)
        picked.append(order[at])
    return picked


@dataclass(kw_only=True)
class Collector:
    """Collects one iteration's rollouts from the policy of `module`.

    Each prompt drawn gets `samples` replies. `reference(packed)` gives the reference's log-probabilities of the tokens
    of all branches, at the same temperature. `score(dialogues, replies)` reads words. A score then goes through
    `transform`, loses `missing_eos_penalty` where the reply was cut at `max_new_tokens`, and goes through `scaling`.
    `observe(iteration, prompts, replies, scores)` sees the words. `sample_rows` and `forward_rows` bound memory.

    It is called with gradients on, the module in train mode and outside autocast, and cares for all three. The old
    log-probabilities come from a forward pass as in training: a sampler's own differ by rounding. Where replies are
    learned from `once`, all together, that pass is the one that learns.
    """

    module: PPOModule
    reference: Callable[[Packed], Tensor]
    prompts: Sequence[RolloutPrompt]
    tokenizer: PreTrainedTokenizerBase
    score: Callable[[list[Dialogue], list[str]], list[float]]
    transform: Callable[[Tensor], Tensor]
    scaling: Callable[[Tensor], Tensor]
    kl: KLControl
    observe: Callable[[int, list[RolloutPrompt], list[str], list[float]], None]
    rollouts: int
    samples: int
    sample_rows: int
    forward_rows: int
    once: bool
    route: Route
    max_new_tokens: int
    temperature: float
    missing_eos_penalty: float
    gamma: float
    lam: float
    seed: int
    history: list[dict[str, float]] = field(default_factory=list, init=False)

    def __call__(self, iteration: int) -> Rollouts:
        """The rollouts of iteration `iteration` (from 0); their figures go to the loggers and to `history`."""
        drawn = draw(len(self.prompts), self.rollouts // self.samples, seed=self.seed, iteration=iteration)
        prompts = [self.prompts[number] for number in drawn for _ in range(self.samples)]
        mixed = self.module.trainer.precision_plugin.forward_context
        with torch.no_grad():
            # on a CPU the products of single tokens take longer in half precision than in single
            with evaluating(self.module), nullcontext() if self.module.device.type == "cpu" else mixed():
                sampled = self._sample(prompts, iteration)
            with nullcontext() if self.once else evaluating(self.module), mixed():
                steps, read = self._forward(prompts, sampled)
            replies = self._replies(prompts, sampled)
            scores = self.score([prompt.dialogue for prompt in prompts], replies)
            _check_scores(prompts, scores)
            self.observe(iteration, prompts, replies, scores)
            trees = trees_of(prompts, sampled, self.samples)
            collected, stats = self._advantages(trees, steps, torch.tensor(scores), sampled)
            collected = collected._replace(read=read)
        stats["episode"] = float((iteration + 1) * self.rollouts)
        self.history.append(stats)
        for logger in self.module.trainer.loggers:
            logger.log_metrics(stats, step=self.module.trainer.global_step)
        return collected

    def state_dict(self) -> dict[str, Any]:
        """What later iterations depend on beside the policy: the KL coefficient, running statistics, the history."""
        scaling: dict[str, Any] = getattr(self.scaling, "state_dict", dict)()
        return {"kl": self.kl.state_dict(), "scaling": scaling, "history": list(self.history)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it over."""
        self.kl.load_state_dict(state["kl"])
        if state["scaling"]:
            self.scaling.load_state_dict(state["scaling"])  # type: ignore[attr-defined]
        self.history[:] = state["history"]

    def _sample(self, prompts: list[RolloutPrompt], iteration: int) -> list[Sampled]:
        policy = self.module.policy
        eos = eos_ids(self.tokenizer, policy)
        keys = [row_key(f"ppo/{iteration}/{row}") for row in range(len(prompts))]
        longest = max(len(prompt.ids) for prompt in prompts) + self.max_new_tokens
        return drawer(policy, self.route, longest)(
            policy,
            [prompt.ids for prompt in prompts],
            row_keys=keys,
            seed=self.seed,
            temperatures=[self.temperature] * len(prompts),
            limits=[self.max_new_tokens] * len(prompts),
            eos=eos,
            stop=None,
            slots=self.sample_rows,
        )

    def _replies(self, prompts: list[RolloutPrompt], sampled: list[Sampled]) -> list[str]:
        format = Format(self.tokenizer)
        texts = [decode(self.tokenizer, row.ids) for row in sampled]
        return [format.reply(prompt.dialogue, text) for prompt, text in zip(prompts, texts, strict=True)]

    def _forward(self, prompts: list[RolloutPrompt], sampled: list[Sampled]) -> tuple[Steps, Read | None]:
        trees = trees_of(prompts, sampled, self.samples)
        device = self.module.device
        mask = reply_mask([len(row.ids) for row in sampled]).to(device)
        steps = Steps(mask, *torch.zeros(4, *mask.shape, device=device))
        order = sorted(range(len(trees)), key=lambda number: len(trees[number].prompt))
        together = len(order) if self.once else max(1, self.forward_rows // self.samples)
        read = None
        for start in range(0, len(order), together):
            numbers = order[start : start + together]
            rows = torch.tensor(rows_of(numbers, self.samples), device=device)
            packed = pack([trees[number] for number in numbers], route=self.route).to(device)
            with torch.set_grad_enabled(self.once):
                logps, values, entropy = self.module.forward_with_entropy(packed)
            if self.once:
                read = Read(packed, rows, logps, values)
            found = (logps.detach(), values.detach(), entropy, self.reference(packed))
            for whole, part in zip(steps[1:], found, strict=True):
                whole[rows] = place(part, mask[rows])
        return steps, read

    def _advantages(
        self, trees: list[Tree], steps: Steps, scores: Tensor, sampled: list[Sampled]
    ) -> tuple[Rollouts, dict[str, float]]:
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
        return Rollouts(trees, mask, steps.logps, steps.values, whiten(advantages, mask), returns), figures


class Steps(NamedTuple):
    """Which steps replies have, and figures of them, [reply, step] all."""

    mask: Tensor
    logps: Tensor
    values: Tensor
    entropy: Tensor
    reference: Tensor


def trees_of(prompts: Sequence[RolloutPrompt], sampled: Sequence[Sampled], samples: int) -> list[Tree]:
    """Each prompt once, with its replies as branches; the `samples` replies to a prompt are neighbours."""
    return [
        Tree(prompts[start].ids, [row.ids for row in sampled[start : start + samples]])
        for start in range(0, len(prompts), samples)
    ]


def reply_mask(lengths: Sequence[int]) -> Tensor:
    """Which steps [reply, step] there are."""
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def _check_scores(prompts: list[RolloutPrompt], scores: list[float]) -> None:
    for prompt, value in zip(prompts, scores, strict=True):
        if not math.isfinite(value):
            raise ValueError(f"the reward of a reply to prompt {prompt.id!r} is {value}: check the reward model")
