"""Reward models: a scalar head on a causal language model, kept as a sequence-classification folder."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from cai_lightning.models.attention import hidden_states
from cai_lightning.models.causal import (
    evaluating,
    load_causal,
    load_layers,
    load_tokenizer,
    number_format,
    pad_id,
    quiet,
    torch_dtype,
    train_every_row,
)
from cai_lightning.models.engine import positions
from cai_lightning.models.format import Format
from cai_lightning.models.lineage import SETTINGS, WEIGHTS, is_adapter, is_reward, lineage
from cai_lightning.models.packing import Packed, Tree, owners, pack, places
from cai_lightning.text.backends import Prompt
from cai_lightning.text.dialogue import Dialogue, to_text

HEAD = "score.weight"


class RewardModel(nn.Module):
    """A sequence-classification model with one label, read from the hidden states of the reply and its end token.

    The score is read at the end token, or with `mean` as the average over all reply tokens. HF's own pooling looks
    for the pad id and reads the token before EOS where pad is eos; ours takes masks. `marker` is a mark that
    pretraining has taught it to check replies behind, read after the dialogue's text; null reads dialogues in the
    model's own format. `gain` multiplies the score, so that a head that starts at zero learns faster than its trunk.
    `cut` counts the prompts that lost their beginning to be scored.
    """

    def __init__(self, model: PreTrainedModel, *, marker: str | None, mean: bool, gain: float) -> None:
        super().__init__()
        self.model = model
        self.marker = marker
        self.mean = mean
        self.gain = gain
        self.cut = 0

    def forward(self, packed: Packed) -> Tensor:
        """Float32 scores [branch] of the replies that are the branches of a packed row."""
        states = hidden_states(self.model, packed)
        with torch.autocast(states.device.type, enabled=False):
            if self.mean:
                lengths = torch.diff(packed.branches).to(states.device)
                sums = torch.zeros(len(lengths), states.shape[1], device=states.device)
                replies = places(packed).to(states.device)
                read = sums.index_add(0, owners(packed).to(states.device), states[replies].float()) / lengths
            else:
                read = states[packed.branches[:, 1].to(states.device) - 1].float()
            return self.gain * functional.linear(read, self.model.score.weight.float())[:, 0]

    def asked(self, dialogue: Dialogue) -> Prompt:
        """The dialogue as this model reads it before a reply."""
        return dialogue if self.marker is None else to_text(dialogue) + self.marker

    @torch.inference_mode()
    def score_replies(
        self, tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Dialogue], replies: Sequence[str], batch_size: int
    ) -> list[float]:
        """The score of each reply, in order, in eval mode; batches hold rows of about one length, equal prompts once.

        A prompt that does not fit before its reply loses its beginning, as in training (`Format.fitted`). Raises
        ValueError where none of it fits.
        """
        format = Format(tokenizer)
        tails = format.reply_ids(replies)
        prompts = self._fitted(format, [self.asked(dialogue) for dialogue in dialogues], [*map(len, tails)])
        order = sorted(range(len(tails)), key=lambda place: (len(prompts[place]), prompts[place]))
        scores = [0.0] * len(tails)
        with evaluating(self):
            for start in range(0, len(order), batch_size):
                numbers = order[start : start + batch_size]
                trees: dict[tuple[int, ...], list[int]] = {}
                for number in numbers:
                    trees.setdefault(tuple(prompts[number]), []).append(number)
                packed = pack([Tree(prompt, [tails[reply] for reply in same]) for prompt, same in trees.items()])
                values = self(packed.to(self.model.device)).tolist()
                for number, value in zip((reply for same in trees.values() for reply in same), values, strict=True):
                    scores[number] = value
        return scores

    def _fitted(self, format: Format, prompts: Sequence[Prompt], replies: Sequence[int]) -> list[list[int]]:
        """The ids of prompts before replies of so many tokens."""
        reads, rows = positions(self.model), []
        for place, (prompt, ids) in enumerate(zip(prompts, format.prompt_ids(prompts), strict=True)):
            found = format.fitted(prompt, reads - replies[place], inside=True, ids=ids)
            if found is None:
                raise ValueError(
                    f"reply {place}: has {replies[place]} tokens, and the {reads} that the reward model reads leave no "
                    "room for the last turn before it; lower max_new_tokens or shorten the prompt"
                )
            self.cut += found[1]
            rows.append(found[0])
        return rows


def reward_from_causal(
    path: Path,
    *,
    adapter: Callable[..., None],
    marker: str | None,
    mean: bool,
    gain: float,
    dtype: str,
    head_std: float,
    seed: int,
) -> tuple[RewardModel, PreTrainedTokenizerBase]:
    """A reward model with the body of the causal LM in `path`, which `adapter` makes learn, and a new head.

    The head is normal with standard deviation `head_std`, a function of `seed` alone: 0 starts at indifference,
    1 / sqrt(d + 1) is that of Stiennon et al. 2020.
    """
    trunk, tokenizer = load_causal(path, dtype=dtype, merge=False)
    adapter(trunk, seed=seed)
    head = torch.randn(1, trunk.config.hidden_size, generator=torch.Generator().manual_seed(seed)) * head_std
    model = _classifier(trunk, path, tokenizer, head)
    return RewardModel(model, marker=marker, mean=mean, gain=gain).eval(), tokenizer


def reward_from_reward(
    path: Path, *, adapter: Callable[..., None], marker: str | None, mean: bool, gain: float, dtype: str, seed: int
) -> tuple[RewardModel, PreTrainedTokenizerBase]:
    """The reward model in `path`, which goes on where it stands: `adapter` makes its body learn, its head learns too.

    Its scores are what they were; the gain is taken out of the head. Raises ValueError where it was trained to read
    replies otherwise than by `marker` and `mean`.
    """
    found = _settings(path)
    wanted: dict[str, Any] = {"marker": marker, "mean": mean}
    if found != wanted:
        raise ValueError(f"{path}: this reward model was trained with {found}, and is to go on with {wanted}")
    tokenizer = load_tokenizer(path)
    trunk, head = _trunk(path, dtype=dtype, merge=False)
    adapter(trunk, seed=seed)
    return RewardModel(_classifier(trunk, path, tokenizer, head / gain), **wanted, gain=gain).eval(), tokenizer


def load_reward(path: Path, *, dtype: str) -> tuple[RewardModel, PreTrainedTokenizerBase]:
    """The reward model of a folder, in eval mode, with its tokenizer. Raises ValueError when the folder holds none."""
    tokenizer = load_tokenizer(path)
    settings = _settings(path)
    if is_adapter(path):
        trunk, head = _trunk(path, dtype=dtype, merge=True)
        model = _classifier(trunk, path, tokenizer, head)
    else:
        with quiet():
            model = AutoModelForSequenceClassification.from_pretrained(
                path, **number_format(dtype), local_files_only=True
            )
    train_every_row(model)
    return RewardModel(model, **settings, gain=1.0).eval(), tokenizer


def load_trunk(path: Path, *, dtype: str, merge: bool) -> tuple[PreTrainedModel, dict[str, Tensor]]:
    """The model of a folder as `load_layers` gives it: a classifier where a reward model lies at its root."""
    kind = AutoModelForSequenceClassification if is_reward(lineage(path)[0]) else AutoModelForCausalLM
    return load_layers(path, dtype=dtype, merge=merge, kind=kind)


def reward_on(trunk: PreTrainedModel, path: Path, *, name: str) -> RewardModel:
    """The reward model of an adapter folder over a causal model that already is its parent, both with the same layers.

    The adapter goes on as `name`, active beside the others: `adapters.only` chooses between them.
    """
    from cai_lightning.models.adapter_files import put_on

    others = put_on(trunk, path, name)
    model = _classifier(trunk, path, load_tokenizer(path), _head(path, others))
    return RewardModel(model, **_settings(path), gain=1.0).eval()


def save_reward(
    reward: RewardModel, tokenizer: PreTrainedTokenizerBase, out: Path, *, parent: Path, dtype: str
) -> None:
    """Writes what was trained on `parent`, with `reward.json`; equal weights, equal bytes.

    AutoModelForSequenceClassification loads the folder, AutoPeftModelForSequenceClassification that of an adapter. The
    gain goes into the head's weights, so a loaded reward model has none.
    """
    if hasattr(reward.model, "peft_config"):
        from cai_lightning.models.adapter_files import write

        head = {HEAD: reward.model.score.weight * reward.gain}
        write(reward.model, out, parent=parent, task="SEQ_CLS", others=head, dtype=torch_dtype(dtype))
    else:
        model = copy.deepcopy(reward.model)
        model.score.weight.data.mul_(reward.gain)
        model = model.to(torch_dtype(dtype))
        with quiet():
            model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / SETTINGS).write_text(json.dumps({"marker": reward.marker, "mean": reward.mean}) + "\n", encoding="utf-8")


def _trunk(path: Path, *, dtype: str, merge: bool) -> tuple[PreTrainedModel, Tensor]:
    """A model with the layers of a reward folder, and the folder's head."""
    trunk, others = load_trunk(path, dtype=dtype, merge=merge)
    return trunk, _head(path, others) if is_adapter(path) else trunk.score.weight.detach().clone()


def _classifier(
    trunk: PreTrainedModel, path: Path, tokenizer: PreTrainedTokenizerBase, head: Tensor
) -> PreTrainedModel:
    """A sequence classifier over the very layers of a model, with a float32 head [1, hidden] that may train."""
    config = AutoConfig.from_pretrained(lineage(path)[0], local_files_only=True, num_labels=1)
    config.pad_token_id = _export_pad(tokenizer)
    with torch.random.fork_rng():
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config, dtype=trunk.dtype)
        model.score = nn.Linear(head.shape[1], 1, bias=False, device=trunk.device)
    setattr(model, model.base_model_prefix, trunk.base_model)
    model.score.weight.data.copy_(head)
    if hasattr(trunk, "peft_config"):
        model.peft_config = trunk.peft_config
    return model


def _head(path: Path, others: dict[str, Tensor]) -> Tensor:
    if list(others) != [HEAD]:
        raise ValueError(f"{path}: {WEIGHTS} lacks the reward's head {HEAD}; train the reward model anew")
    return others[HEAD]


def _settings(path: Path) -> dict[str, Any]:
    if not is_reward(path):
        raise ValueError(f"{path}: not a reward model: {SETTINGS} is missing; give the folder of a saved reward model")
    settings: dict[str, Any] = json.loads((path / SETTINGS).read_text(encoding="utf-8"))
    return {"marker": settings["marker"], "mean": settings["mean"]}


def _export_pad(tokenizer: PreTrainedTokenizerBase) -> int:
    """A pad id other than eos where the tokenizer has one: HF's pooling takes the last token that is not pad."""
    spare = (tokenizer.pad_token_id, tokenizer.unk_token_id)
    return int(next((token for token in spare if token not in (None, tokenizer.eos_token_id)), pad_id(tokenizer)))
