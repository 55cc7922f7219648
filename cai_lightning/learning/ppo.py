"""The learner of PPO: a policy and a value head on its last hidden states, trained on collected rollouts."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from transformers import PreTrainedModel

from cai_lightning.learning.losses import ppo_policy_loss, ppo_value_loss
from cai_lightning.learning.optim import OptimizerFactory, ScheduleFactory, configured
from cai_lightning.models.attention import hidden_states
from cai_lightning.models.logprobs import chosen_logprobs, entropies, logits_of, place
from cai_lightning.models.packing import Packed, places


class RolloutBatch(NamedTuple):
    """Collected replies, the branches of a packed row, and what PPO needs of every step [reply, step].

    A step is the choice of a reply token; `mask` marks those that a reply has. `read` are the log-probabilities and
    values of the steps in a row, with their graph, where the pass that made the old ones serves for learning too.
    """

    packed: Packed
    mask: Tensor
    old_logps: Tensor
    old_values: Tensor
    advantages: Tensor
    returns: Tensor
    rows: Tensor
    read: tuple[Tensor, Tensor] | None = None


class PPOModule(LightningModule):  # type: ignore[misc]
    """Trains policy and value head by clipped PPO. Reference, reward model and sampling belong to the collector."""

    def __init__(
        self,
        policy: PreTrainedModel,
        *,
        temperature: float,
        clip_range: float,
        value_clip: float,
        vf_coef: float,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
    ) -> None:
        super().__init__()
        self.policy = policy
        # Zero: the first advantages are the rewards themselves, and no random value moves the shared trunk.
        self.value_head = nn.Linear(policy.config.hidden_size, 1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        self._temperature = temperature
        self._clip_range = clip_range
        self._value_clip = value_clip
        self._vf_coef = vf_coef
        self._optimizer = optimizer
        self._schedule = schedule

    def forward(self, packed: Packed) -> tuple[Tensor, Tensor]:
        """Log-probabilities (nats, at the sampling temperature) and values of the steps of all replies, in a row."""
        logits, ids, values = self._read(packed)
        return chosen_logprobs(logits, ids), values

    def forward_with_entropy(self, packed: Packed) -> tuple[Tensor, Tensor, Tensor]:
        """What `forward` gives, and the entropy in nats of each step's distribution."""
        logits, ids, values = self._read(packed)
        return chosen_logprobs(logits, ids), values, entropies(logits.detach())

    def _read(self, packed: Packed) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, ids and values of the steps."""
        targets = places(packed).to(packed.ids.device)
        states = hidden_states(self.policy, packed)
        # Values are sums of many small terms: bfloat16 would round away what advantages are made of.
        with torch.autocast(states.device.type, enabled=False):
            values = self.value_head(states[packed.previous[targets]].float())[:, 0]
        logits = logits_of(self.policy, packed, targets, states, temperature=self._temperature)
        return logits, packed.ids[targets], values

    def training_step(self, batch: RolloutBatch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Policy loss plus `vf_coef` times value loss, each a mean over the minibatch's reply tokens."""
        logps, values = (place(steps, batch.mask) for steps in batch.read or self(batch.packed))
        policy = ppo_policy_loss(logps, batch.old_logps, batch.advantages, batch.mask, clip_range=self._clip_range)
        value = ppo_value_loss(values, batch.old_values, batch.returns, batch.mask, value_clip=self._value_clip)
        metrics = {"loss/policy_avg": policy.loss.detach(), "loss/value_avg": value.loss.detach()}
        metrics |= policy.metrics | value.metrics
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(batch.rows))
        return policy.loss + self._vf_coef * value.loss

    def configure_optimizers(self) -> dict[str, Any]:
        """Optimizer and schedule of the recipe."""
        steps = int(self.trainer.estimated_stepping_batches)
        return configured(self, self._optimizer, self._schedule, steps)
