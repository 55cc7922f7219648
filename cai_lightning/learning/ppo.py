"""The learner of PPO: a policy and a value head on its last hidden states, trained on collected rollouts."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from cai_lightning.learning.losses import ppo_policy_loss, ppo_value_loss
from cai_lightning.learning.optim import OptimizerFactory, ScheduleFactory, configured
from cai_lightning.models.logprobs import head, hidden_states, place


class RolloutBatch(NamedTuple):
    """Collected rows [row, token], right-padded, and what PPO needs of every step [row, step].

    Step t is the choice of token t + 1; `mask` marks the steps that chose a reply token.
    """

    input_ids: Tensor
    mask: Tensor
    old_logps: Tensor
    old_values: Tensor
    advantages: Tensor
    returns: Tensor
    rows: Tensor


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

    def forward(self, input_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (nats, at the sampling temperature) and values of the masked steps; 0 at the others."""
        logits, values = self._logits_and_values(input_ids, mask)
        logps = -functional.cross_entropy(logits, input_ids[:, 1:][mask], reduction="none")
        return place(logps, mask), place(values, mask)

    def forward_with_entropy(self, input_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What `forward` gives, and the entropy in nats of each masked step's distribution."""
        logits, values = self._logits_and_values(input_ids, mask)
        logps = -functional.cross_entropy(logits, input_ids[:, 1:][mask], reduction="none")
        every = functional.log_softmax(logits, dim=-1)
        return place(logps, mask), place(values, mask), place(-(every.exp() * every).sum(-1), mask)

    def _logits_and_values(self, input_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        states = hidden_states(self.policy, input_ids)[:, :-1][mask]
        # Values are sums of many small terms: bfloat16 would round away what advantages are made of.
        with torch.autocast(states.device.type, enabled=False):
            values = self.value_head(states.float())[:, 0]
        return head(self.policy, states) / self._temperature, values

    def training_step(self, batch: RolloutBatch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """Policy loss plus `vf_coef` times value loss, each a mean over the minibatch's reply tokens."""
        logps, values = self(batch.input_ids, batch.mask)
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
