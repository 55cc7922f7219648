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

from cai_lightning.learning.collection import (
    Estimator,
    Part,
    Steps,
    ended,
    figures,
    joined,
    reply_mask,
    rewarded,
)
from cai_lightning.learning.gathering import gathered
from cai_lightning.learning.ppo import PPOModule
from cai_lightning.learning.rollout_loader import Read, Rollouts, rows_of
from cai_lightning.models.causal import eos_ids, evaluating
from cai_lightning.models.encoding import decode
from cai_lightning.models.engine import drawer
from cai_lightning.models.format import Format
from cai_lightning.models.logprobs import place
from cai_lightning.models.noise import row_key
from cai_lightning.models.packing import Packed, Route, Tree, pack
from cai_lightning.models.reward_ensemble import Combine, combined
from cai_lightning.models.sampler import Sampled
from cai_lightning.text.dialogue import Dialogue


class RolloutPrompt(NamedTuple):
    """A prompt by id, as dialogue, and as ids that end where the reply begins."""

    id: str
    dialogue: Dialogue
    ids: list[int]


FIRST = "first"  # the name of the reward model that others stand beside
Scorer = Callable[[list[Dialogue], list[str]], list[float]]
"""(dialogues, replies) -> the score of each reply."""
MemberScorer = Callable[[list[Dialogue], list[str]], dict[str, list[float]]]
"""(dialogues, replies) -> the score of each reply by each of several reward models, by their names."""


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
    of all branches, at the same temperature. `score(dialogues, replies)` reads words. So do `others`, further reward
    models beside it, the `first`: `combine` makes one score of all. So does `heldout`, whose scores are only looked at.
    A score goes through `transform`, which sees the lengths of replies too, loses `missing_eos_penalty` where the reply
    was cut at `max_new_tokens`, and goes through `scaling`; `estimator` makes advantages.
    `observe(iteration, prompts, replies, scores)` sees the words. `sample_rows` and `forward_rows` bound memory.

    It is called with gradients on, the module in train mode and outside autocast, and cares for all three. The old
    log-probabilities come from a forward pass as in training: a sampler's own differ by rounding. Where replies are
    learned from `once`, all together, that pass is the one that learns. Of several processes each collects its part of
    the prompts, and all see the whole.
    """

    module: PPOModule
    reference: Callable[[Packed], Tensor]
    prompts: Sequence[RolloutPrompt]
    tokenizer: PreTrainedTokenizerBase
    score: Scorer
    others: MemberScorer | None
    combine: Combine
    heldout: Scorer | None
    transform: Callable[[Tensor, Tensor], Tensor]
    scaling: Callable[[Tensor], Tensor]
    estimator: Estimator
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
    seed: int
    history: list[dict[str, float]] = field(default_factory=list, init=False)

    def __call__(self, iteration: int) -> Rollouts:
        """The rollouts of iteration `iteration` (from 0); their figures go to the loggers and to `history`."""
        trainer = self.module.trainer
        drawn = draw(len(self.prompts), self.rollouts // self.samples, seed=self.seed, iteration=iteration)
        numbers = list(range(len(drawn)))[trainer.global_rank :: trainer.world_size]
        with torch.no_grad():
            part, read = self._part([self.prompts[drawn[number]] for number in numbers], numbers, iteration)
            found = joined(gathered(part, trainer.world_size), self.samples)
            prompts = [self.prompts[number] for number in drawn for _ in range(self.samples)]
            for name, values in (("reward", found.scores), ("held-out reward", found.heldout)):
                _check_scores(prompts, values, name)
            self.observe(iteration, prompts, found.replies, found.scores)
            collected, stats = self._worth(found)
        stats["episode"] = float((iteration + 1) * self.rollouts)
        self.history.append(stats)
        for logger in trainer.loggers:
            logger.log_metrics(stats, step=trainer.global_step)
        return collected._replace(read=read)

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

    def _part(self, asked: list[RolloutPrompt], numbers: list[int], iteration: int) -> tuple[Part, Read | None]:
        """What this process collects, the trees so numbered, and the pass that learns from it, if one has a graph."""
        prompts = [prompt for prompt in asked for _ in range(self.samples)]
        names = [f"ppo/{iteration}/{number}" for number in rows_of(numbers, self.samples)]
        mixed = self.module.trainer.precision_plugin.forward_context
        # on a CPU the products of single tokens take longer in half precision than in single
        with evaluating(self.module), nullcontext() if self.module.device.type == "cpu" else mixed():
            sampled = self._sample(prompts, names)
        trees = trees_of(prompts, sampled, self.samples)
        with nullcontext() if self.once else evaluating(self.module), mixed():
            steps, read = self._forward(trees, sampled)
        replies = self._replies(prompts, sampled)
        dialogues = [prompt.dialogue for prompt in prompts]
        scores, members = self._scores(dialogues, replies)
        heldout = [] if self.heldout is None else self.heldout(dialogues, replies)
        on_cpu = Steps(*(whole.cpu() for whole in steps))
        return Part(numbers, trees, ended(sampled), replies, scores, members, heldout, on_cpu), read

    def _scores(self, dialogues: list[Dialogue], replies: list[str]) -> tuple[list[float], dict[str, list[float]]]:
        """The score of each reply, and of several reward models each one's."""
        scores = self.score(dialogues, replies)
        if self.others is None:
            return scores, {}
        members = {FIRST: scores, **self.others(dialogues, replies)}
        return combined(members, self.combine), members

    def _sample(self, prompts: list[RolloutPrompt], names: list[str]) -> list[Sampled]:
        policy = self.module.policy
        eos = eos_ids(self.tokenizer, policy)
        longest = max(len(prompt.ids) for prompt in prompts) + self.max_new_tokens
        return drawer(policy, self.route, longest)(
            policy,
            [prompt.ids for prompt in prompts],
            row_keys=[row_key(name) for name in names],
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

    def _forward(self, trees: list[Tree], sampled: list[Sampled]) -> tuple[Steps, Read | None]:
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
                read = Read(packed, numbers, logps, values, entropy)
            found = (logps.detach(), values.detach(), entropy.detach(), self.reference(packed))
            for whole, part in zip(steps[1:], found, strict=True):
                whole[rows] = place(part, mask[rows])
        return steps, read

    def _worth(self, found: Part) -> tuple[Rollouts, dict[str, float]]:
        """What is learned of the whole collection, and its figures."""
        steps, lengths = found.steps, found.steps.mask.sum(1)
        scores = self.transform(torch.tensor(found.scores), lengths)
        scores = scores - self.missing_eos_penalty * (~torch.tensor(found.ended)).float()
        rewards, advantages, returns = rewarded(
            found, self.scaling(scores), self.estimator, kl_coef=self.kl.value, samples=self.samples
        )
        stats = {**figures(found, rewards, returns), "objective/kl_coef": self.kl.value}
        self.kl.update(stats["objective/kl"], len(found.scores))
        columns = (steps.mask, steps.logps, steps.values, steps.reference, advantages, returns)
        placed = (column.to(self.module.device) for column in columns)
        return Rollouts._make((found.trees, *placed, None)), stats


def trees_of(prompts: Sequence[RolloutPrompt], sampled: Sequence[Sampled], samples: int) -> list[Tree]:
    """Each prompt once, with its replies as branches; the `samples` replies to a prompt are neighbours."""
    return [
        Tree(prompts[start].ids, [row.ids for row in sampled[start : start + samples]])
        for start in range(0, len(prompts), samples)
    ]


def _check_scores(prompts: Sequence[RolloutPrompt], values: Sequence[float], name: str) -> None:
    for prompt, value in zip(prompts, values, strict=False):
        if not math.isfinite(value):
            raise ValueError(f"the {name} of a reply to prompt {prompt.id!r} is {value}: check the reward model")
