"""Reward models: a scalar head on a causal language model, kept as a sequence-classification folder."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path

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

from cai_lightning.models.causal import evaluating, load_tokenizer, pad_id, quiet, torch_dtype, train_every_row
from cai_lightning.models.format import Format
from cai_lightning.models.logprobs import hidden_states, pad_rows
from cai_lightning.text.backends import Prompt
from cai_lightning.text.dialogue import Dialogue, to_text

SETTINGS = "reward.json"


class RewardModel(nn.Module):
    """A sequence-classification model with one label, read from the hidden states of the reply and its end token.

    The score is read at the end token, or with `mean` as the average over all reply tokens. HF's own pooling looks
    for the pad id and reads the token before EOS where pad is eos; ours takes masks. `marker` is a mark that
    pretraining has taught it to check replies behind, read after the dialogue's text; null reads dialogues in the
    model's own format.
    `gain` multiplies the score, so that a head that starts at zero learns faster than its trunk.
    """

    def __init__(self, model: PreTrainedModel, *, marker: str | None, mean: bool, gain: float) -> None:
        super().__init__()
        self.model = model
        self.marker = marker
        self.mean = mean
        self.gain = gain

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Float32 scores [rows] of right-padded ids [rows, time]; the bool `mask` marks each row's reply tokens."""
        states = hidden_states(self.model, input_ids)
        with torch.autocast(states.device.type, enabled=False):
            if self.mean:
                read = (states.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            else:
                last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
                read = states[torch.arange(len(states), device=states.device), last].float()
            return self.gain * functional.linear(read, self.model.score.weight.float())[:, 0]

    def asked(self, dialogue: Dialogue) -> Prompt:
        """The dialogue as this model reads it before a reply."""
        return dialogue if self.marker is None else to_text(dialogue) + self.marker

    @torch.inference_mode()
    def score_replies(
        self, tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Dialogue], replies: Sequence[str], batch_size: int
    ) -> list[float]:
        """The score of each reply, in order, in eval mode; batches are made of rows of about equal length."""
        format = Format(tokenizer)
        prompts = format.prompt_ids([self.asked(dialogue) for dialogue in dialogues])
        rows = [[*ids, *reply] for ids, reply in zip(prompts, format.reply_ids(replies), strict=True)]
        starts = [len(ids) for ids in prompts]
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        scores = [0.0] * len(rows)
        with evaluating(self):
            for start in range(0, len(order), batch_size):
                places = order[start : start + batch_size]
                ids = pad_rows([rows[place] for place in places], pad_id(tokenizer), 1)
                column = torch.arange(ids.shape[1])
                first = torch.tensor([starts[place] for place in places])[:, None]
                past = torch.tensor([len(rows[place]) for place in places])[:, None]
                mask = (column >= first) & (column < past)
                values = self(ids.to(self.model.device), mask.to(self.model.device)).tolist()
                for place, value in zip(places, values, strict=True):
                    scores[place] = value
        return scores


def reward_from_causal(
    path: Path, *, marker: str | None, mean: bool, gain: float, dtype: str, head_std: float, seed: int
) -> tuple[RewardModel, PreTrainedTokenizerBase]:
    """A reward model with the body of the causal LM in `path` and a new head, with its tokenizer.

    The head is normal with standard deviation `head_std`, a function of `seed` alone: 0 starts at indifference,
    1 / sqrt(d + 1) is that of Stiennon et al. 2020.
    """
    tokenizer = load_tokenizer(path)
    with quiet():
        causal = AutoModelForCausalLM.from_pretrained(path, dtype=torch_dtype(dtype), local_files_only=True)
    config = AutoConfig.from_pretrained(path, local_files_only=True, num_labels=1)
    config.pad_token_id = _export_pad(tokenizer)
    with torch.random.fork_rng():
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch_dtype(dtype))
    model.get_decoder().load_state_dict(causal.get_decoder().state_dict())
    head = torch.randn(model.score.weight.shape, generator=torch.Generator().manual_seed(seed)) * head_std
    model.score.weight.data.copy_(head)
    train_every_row(model)
    return RewardModel(model, marker=marker, mean=mean, gain=gain).eval(), tokenizer


def load_reward(path: Path, *, dtype: str) -> tuple[RewardModel, PreTrainedTokenizerBase]:
    """The reward model of a folder, in eval mode, with its tokenizer. Raises ValueError when the folder holds none."""
    tokenizer = load_tokenizer(path)
    if not (path / SETTINGS).is_file():
        raise ValueError(f"{path}: not a reward model: {SETTINGS} is missing; give the folder of a saved reward model")
    settings = json.loads((path / SETTINGS).read_text(encoding="utf-8"))
    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(
            path, dtype=torch_dtype(dtype), local_files_only=True
        )
    train_every_row(model)
    return RewardModel(model, marker=settings["marker"], mean=settings["mean"], gain=1.0).eval(), tokenizer


def save_reward(reward: RewardModel, tokenizer: PreTrainedTokenizerBase, out: Path, *, dtype: str) -> None:
    """Writes a folder that AutoModelForSequenceClassification loads, with `reward.json`; equal weights, equal bytes.

    The gain goes into the head's weights, so a loaded reward model has none.
    """
    model = copy.deepcopy(reward.model)
    model.score.weight.data.mul_(reward.gain)
    model = model.to(torch_dtype(dtype))
    with quiet():
        model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / SETTINGS).write_text(json.dumps({"marker": reward.marker, "mean": reward.mean}) + "\n", encoding="utf-8")


def _export_pad(tokenizer: PreTrainedTokenizerBase) -> int:
    """A pad id other than eos where the tokenizer has one: HF's pooling takes the last token that is not pad."""
    spare = (tokenizer.pad_token_id, tokenizer.unk_token_id)
    return int(next((token for token in spare if token not in (None, tokenizer.eos_token_id)), pad_id(tokenizer)))
