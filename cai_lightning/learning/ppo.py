"""The learner of PPO, RLOO and GRPO: a policy and a value head on its last hidden states, trained on rollouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from transformers import PreTrainedModel

from cai_lightning.learning.optim import OptimizerFactory, ScheduleFactory, configured
from cai_lightning.learning.policy_losses import by_token, kl_loss, ppo_policy_loss, ppo_value_loss, weighed
from cai_lightning.models.attention import hidden_states
from cai_lightning.models.logprobs import chosen_logprobs, entropies, logits_of, place
from cai_lightning.models.packing import Packed, places


class RolloutBatch(NamedTuple):
    """Collected replies, the branches of a packed row, and what PPO needs of every step [reply, step].

    A step is the choice of a reply token; `mask` marks those that a reply has, and `tokens` is their number in the
    whole minibatch over its processes. `read` are the log-probabilities, values and entropies of the steps in a row,
    with their graph, where the pass that made the old ones serves for learning too.
    """

    packed: Packed
    mask: Tensor
    old_logps: Tensor
    old_values: Tensor
    reference: Tensor
    advantages: Tensor
    returns: Tensor
    rows: Tensor
    tokens: Tensor
    read: tuple[Tensor, Tensor, Tensor] | None = None


class PPOModule(LightningModule):  # type: ignore[misc]
    """Trains a policy by the clipped surrogate loss, and its value head. Reference, reward model and sampling belong to
    the collector.

    The loss adds `vf_coef` times the value loss (0: nobody learns values), `kl_loss_coef` times the KL to the reference
    and takes `entropy_coef` times the entropy off. `weigh` says how much each token counts.
    """

    def __init__(
        self,
        policy: PreTrainedModel,
        *,
        temperature: float,
        clip_range: float,
        value_clip: float,
        vf_coef: float,
        kl_loss_coef: float,
        entropy_coef: float,
        weigh: Callable[[Tensor, Tensor], Tensor],
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
        self._kl_loss_coef = kl_loss_coef
        self._entropy_coef = entropy_coef
        self._weigh = weigh
        self.first_ratio_error = 0.0  # of the newest iteration: how far a ratio was from 1 before its first update
        self._optimizer = optimizer
        self._schedule = schedule

    def forward(self, packed: Packed) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities (nats, at the sampling temperature), values, and entropies (nats) or, where these are not
        learned from, 0, of the steps of all replies, in a row.
        """
        logits, ids, values = self._read(packed)
        entropy = entropies(logits) if self._entropy_coef else torch.zeros_like(values)
        return chosen_logprobs(logits, ids), values, entropy

    def forward_with_entropy(self, packed: Packed) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, with the entropies in any case."""
        logits, ids, values = self._read(packed)
        entropy = entropies(logits if self._entropy_coef else logits.detach())
        return chosen_logprobs(logits, ids), values, entropy

    def _read(self, packed: Packed) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, ids and values of the steps."""
        targets = places(packed).to(packed.ids.device)
        states = hidden_states(self.policy, packed)
        # Values are sums of many small terms: bfloat16 would round away what advantages are made of.
        with torch.autocast(states.device.type, enabled=False):
            values = self.value_head(states[packed.previous[targets]].float())[:, 0]
        logits = logits_of(self.policy, packed, targets, states, temperature=self._temperature)
        return logits, packed.ids[targets], values

    def training_step(self, batch: RolloutBatch, batch_idx: int) -> Tensor:
        """The loss of a minibatch: of all processes together it is the mean of theirs."""
        logps, values, entropy = (place(steps, batch.mask) for steps in batch.read or self(batch.packed))
        weights = self._weigh(batch.mask, batch.tokens)
        policy = ppo_policy_loss(
            logps, batch.old_logps, batch.advantages, batch.mask, weights, clip_range=self._clip_range
        )
        each = by_token(batch.mask, batch.tokens)
        value = ppo_value_loss(values, batch.old_values, batch.returns, batch.mask, each, value_clip=self._value_clip)
        losses = {"loss/policy_avg": policy.loss.detach(), "loss/value_avg": value.loss.detach()}
        loss = policy.loss + self._vf_coef * value.loss
        if self._kl_loss_coef:
            kl = kl_loss(logps, batch.reference, batch.mask, weights)
            losses["loss/kl_avg"] = kl.detach()
            loss = loss + self._kl_loss_coef * kl
        if self._entropy_coef:
            loss = loss - self._entropy_coef * weighed(entropy, batch.mask, each)
        if batch_idx == 0:
            ratio = torch.where(batch.mask, logps.detach() - batch.old_logps, 0.0).exp()
            error = (ratio - 1).abs().max()
            # of all processes, for the first alone raises alarms
            self.first_ratio_error = (error if self.trainer.world_size == 1 else self.all_gather(error).max()).item()
        self._log(losses, 1)
        self._log(policy.metrics | value.metrics, int(batch.mask.sum()))
        return loss

    def _log(self, figures: dict[str, Tensor], weight: int) -> None:
        """Figures whose mean over an iteration's minibatches, by weight, and over processes is written."""
        # Lightning averages the weights of processes as integers: times their number they stay whole
        whole = weight * self.trainer.world_size
        self.log_dict(figures, on_step=False, on_epoch=True, batch_size=whole, sync_dist=True)

    def configure_optimizers(self) -> dict[str, Any]:
        """Optimizer and schedule of the recipe."""
        steps = int(self.trainer.estimated_stepping_batches)
        return configured(self, self._optimizer, self._schedule, steps)
