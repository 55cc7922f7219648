"""The models of a PPO run: policy, reference and reward model, over one frozen base where adapters allow it.

And what scores replies by a reward model, for whoever samples them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from cai_lightning.learning.rollouts import MemberScorer, Scorer
    from cai_lightning.models.reward import RewardModel
    from cai_lightning.models.reward_ensemble import RewardEnsemble
    from cai_lightning.text.dialogue import Dialogue


@dataclass(frozen=True)
class Roles:
    """Each role's model and, for those that share one, the adapters that make it that role."""

    policy: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    reference: PreTrainedModel
    reference_adapters: list[str]
    judge: RewardModel
    judge_tokenizer: PreTrainedTokenizerBase
    judge_adapters: list[str]


def load_roles(policy: Path, reward_model: Path, *, adapter: Callable[..., None], base_dtype: str, seed: int) -> Roles:
    """The roles, on this run's device; only what `adapter` chooses in the policy may train.

    With an adapter the reference is the policy without it. The reward model joins them if it consists of adapters on
    the same folder of weights, and nothing was folded into these on either side.
    """
    from cai_lightning.models.adapters import names
    from cai_lightning.models.causal import load_causal
    from cai_lightning.stages.session import device

    model, tokenizer = load_causal(policy, dtype=base_dtype, merge=False)
    adapter(model, seed=seed)
    own = names(model)
    reference = model if own else load_causal(policy, dtype=base_dtype)[0].requires_grad_(False).to(device())
    if _share(policy, reward_model, own):
        judge, judge_tokenizer, judging = _judge_on(model, reward_model)
    else:
        judge, judge_tokenizer, judging = load_judge(reward_model, dtype=base_dtype)
    return Roles(model, tokenizer, reference, own[:-1], judge.to(device()), judge_tokenizer, judging)


def load_judge(folder: Path, *, dtype: str) -> tuple[RewardModel, PreTrainedTokenizerBase, list[str]]:
    """A reward model with weights of its own, on this run's device, and its adapters."""
    from cai_lightning.models.adapters import names
    from cai_lightning.models.reward import load_reward
    from cai_lightning.stages.session import device

    judge, tokenizer = load_reward(folder, dtype=dtype)
    judge.requires_grad_(False)
    return judge.to(device()), tokenizer, names(judge.model)


def scorer(
    judge: RewardModel, tokenizer: PreTrainedTokenizerBase, adapters: list[str], *, precision: str, rows: int
) -> Scorer:
    """What scores replies by a reward model, `rows` at a time."""
    import torch

    from cai_lightning.models.adapters import only
    from cai_lightning.stages.session import autocast

    def score(dialogues: list[Dialogue], replies: list[str]) -> list[float]:
        with only(judge.model, adapters), torch.inference_mode(), autocast(precision):
            return judge.score_replies(tokenizer, dialogues, replies, batch_size=rows)

    return score


def member_scorer(judges: RewardEnsemble, *, precision: str, rows: int) -> MemberScorer:
    """What scores replies by each of several reward models, `rows` at a time."""
    import torch

    from cai_lightning.stages.session import autocast

    def score(dialogues: list[Dialogue], replies: list[str]) -> dict[str, list[float]]:
        with torch.inference_mode(), autocast(precision):
            return judges.scores_by_member(dialogues, replies, rows)

    return score


def _share(policy: Path, reward_model: Path, own: list[str]) -> bool:
    from cai_lightning.models.lineage import lineage, stacked

    (root, below), (other, layers) = lineage(policy), lineage(reward_model)
    unfolded = len(own) == len(below) + 1 and stacked(layers)
    return unfolded and bool(layers) and root.resolve() == other.resolve()


def _judge_on(model: PreTrainedModel, folder: Path) -> tuple[RewardModel, PreTrainedTokenizerBase, list[str]]:
    """The reward model over the policy's own layers, with the names of its adapters; the policy's stay active."""
    from cai_lightning.models.adapter_files import put_on
    from cai_lightning.models.adapters import activate, names
    from cai_lightning.models.causal import load_tokenizer
    from cai_lightning.models.lineage import lineage
    from cai_lightning.models.reward import reward_on

    own, layers = names(model), lineage(folder)[1]
    judging = [f"judge{number}" for number in range(len(layers))]
    for layer, name in zip(layers[:-1], judging[:-1], strict=True):
        put_on(model, layer.folder, name)
    judge = reward_on(model, folder, name=judging[-1])
    judge.model.score.requires_grad_(False)
    activate(model, own)
    return judge, load_tokenizer(folder), judging
