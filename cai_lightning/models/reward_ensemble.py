"""Several reward models that score a reply as one, over one frozen base where their adapters allow it."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cai_lightning.models.causal import load_tokenizer
from cai_lightning.models.lineage import lineage, stacked
from cai_lightning.models.reward import RewardModel, load_reward, load_trunk, reward_on
from cai_lightning.text.dialogue import Dialogue

Combine = Callable[[Mapping[str, Tensor]], Tensor]
"""The scores [row] of each member by its name -> one score a row."""
Member = tuple[RewardModel, PreTrainedTokenizerBase]


class RewardEnsemble(nn.Module):
    """Reward models by name, and the function that makes one score of theirs.

    `adapters` names, for members that share the layers of one model, the adapters that make it that member.
    """

    def __init__(
        self, members: Mapping[str, Member], *, combine: Combine, adapters: Mapping[str, Sequence[str]]
    ) -> None:
        super().__init__()
        if not members:
            raise ValueError("members: an ensemble needs a reward model; name one")
        self.names = list(members)
        self.combine = combine
        self._models = nn.ModuleList([model for model, _ in members.values()])
        self._tokenizers = [tokenizer for _, tokenizer in members.values()]
        self._adapters = dict(adapters)

    @property
    def cut(self) -> int:
        """How often a prompt lost its beginning to be scored by a member."""
        return sum(model.cut for model in self._members())

    def score_replies(self, dialogues: Sequence[Dialogue], replies: Sequence[str], batch_size: int) -> list[float]:
        """The one score of each reply, in order. Raises ValueError where a member's is no number."""
        return combined(self.scores_by_member(dialogues, replies, batch_size), self.combine)

    def scores_by_member(
        self, dialogues: Sequence[Dialogue], replies: Sequence[str], batch_size: int
    ) -> dict[str, list[float]]:
        """Each member's scores of the replies, in order, as `RewardModel.score_replies` gives them."""
        found = {}
        for name, model, tokenizer in zip(self.names, self._members(), self._tokenizers, strict=True):
            with self._as(name, model.model):
                found[name] = model.score_replies(tokenizer, dialogues, replies, batch_size)
        return found

    def _members(self) -> list[RewardModel]:
        return [model for model in self._models if isinstance(model, RewardModel)]

    def _as(self, name: str, model: PreTrainedModel) -> contextlib.AbstractContextManager[None]:
        if name not in self._adapters:
            return contextlib.nullcontext()
        from cai_lightning.models.adapters import only

        return only(model, self._adapters[name])


def combined(scores: Mapping[str, Sequence[float]], combine: Combine) -> list[float]:
    """The one score of each row from the members' scores of it.

    Raises ValueError where a member's score is no finite number: a NaN would pass through a mean in silence.
    """
    for name, row in scores.items():
        for place, score in enumerate(row):
            if not math.isfinite(score):
                raise ValueError(
                    f"reward model {name!r}: gives reply {place} the score {score}; train it anew, or leave it out"
                )
    table = {name: torch.tensor([*row], dtype=torch.float64) for name, row in scores.items()}
    found: list[float] = combine(table).tolist()
    return found


def load_ensemble(folders: Mapping[str, Path], *, combine: Combine, dtype: str) -> RewardEnsemble:
    """The ensemble of reward model folders, frozen, in eval mode.

    Members that are adapters on one folder of weights, nothing folded into these, share them; of two whole models both
    are loaded.
    """
    members: dict[str, Member] = {}
    adapters: dict[str, list[str]] = {}
    trunks = {root: load_trunk(root, dtype=dtype, merge=False)[0] for root in _shared(folders)}
    for number, (name, folder) in enumerate(folders.items()):
        root = _root(folder)
        if root in trunks:
            adapters[name] = [f"member{number}_{layer}" for layer in range(len(lineage(folder)[1]))]
            members[name] = _over(trunks[root], folder, adapters[name])
        else:
            members[name] = load_reward(folder, dtype=dtype)
    ensemble = RewardEnsemble(members, combine=combine, adapters=adapters)
    return ensemble.requires_grad_(False).eval()


def _shared(folders: Mapping[str, Path]) -> list[Path]:
    """The folders of weights that more than one member rests on."""
    roots = Counter(root for folder in folders.values() if (root := _root(folder)))
    return [root for root, count in roots.items() if count > 1]


def _root(folder: Path) -> Path | None:
    """The weights that a folder's adapters rest on as they are; None for a whole model and for folded adapters."""
    root, layers = lineage(folder)
    return root.resolve() if layers and stacked(layers) else None


def _over(trunk: PreTrainedModel, folder: Path, names: Sequence[str]) -> Member:
    """The reward model of a folder over a model that is its root, its adapters under these names."""
    from cai_lightning.models.adapter_files import put_on

    for layer, name in zip(lineage(folder)[1][:-1], names[:-1], strict=True):
        put_on(trunk, layer.folder, name)
    return reward_on(trunk, folder, name=names[-1]), load_tokenizer(folder)
