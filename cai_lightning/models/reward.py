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
from cai_lightning.models.encoding import prompts_ids
from cai_lightning.models.logprobs import hidden_states, pad_rows

SETTINGS = "reward.json"


class RewardModel(nn.Module):
    """A sequence-classification model with one label, read at the last real token by length.

    HF's own pooling looks for the pad id and reads the token before EOS where pad is eos; ours takes lengths.
    `suffix` is what ends every text in place of EOS, such as a question that the model answers with its score.
    """

    def __init__(self, model: PreTrainedModel, suffix: str) -> None:
        super().__init__()
        self.model = model
        self.suffix = suffix

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """Float32 scores [rows] of right-padded ids [rows, time] with `lengths` [rows] real tokens each."""
        rows = torch.arange(len(input_ids), device=input_ids.device)
        last = hidden_states(self.model, input_ids)[rows, lengths.to(rows.device) - 1]
        with torch.autocast(last.device.type, enabled=False):
            return functional.linear(last.float(), self.model.score.weight.float())[:, 0]

    def encode(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
        """The ids to score of each dialogue text: text + EOS, or text + suffix where there is one."""
        rows = prompts_ids(tokenizer, [text + self.suffix for text in texts])
        return rows if self.suffix else [[*row, tokenizer.eos_token_id] for row in rows]

    @torch.inference_mode()
    def score_texts(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], batch_size: int) -> list[float]:
        """The score of each dialogue text, in order, in eval mode; batches are made of texts of about equal length."""
        rows = self.encode(tokenizer, texts)
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        scores = [0.0] * len(rows)
        with evaluating(self):
            for start in range(0, len(order), batch_size):
                places = order[start : start + batch_size]
                ids = pad_rows([rows[place] for place in places], pad_id(tokenizer), 1)
                lengths = torch.tensor([len(rows[place]) for place in places])
                values = self(ids.to(self.model.device), lengths.to(self.model.device)).tolist()
                for place, value in zip(places, values, strict=True):
                    scores[place] = value
        return scores


def reward_from_causal(
    path: Path, *, suffix: str, dtype: str, head_std: float, seed: int
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
    return RewardModel(model, suffix).eval(), tokenizer


def load_reward(path: Path, *, dtype: str) -> tuple[RewardModel, PreTrainedTokenizerBase]:
    """The reward model of a folder, in eval mode, with its tokenizer. Raises ValueError when the folder holds none."""
    tokenizer = load_tokenizer(path)
    if not (path / SETTINGS).is_file():
        raise ValueError(f"{path}: not a reward model: {SETTINGS} is missing; give the folder of a saved reward model")
    suffix = json.loads((path / SETTINGS).read_text(encoding="utf-8"))["suffix"]
    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(
            path, dtype=torch_dtype(dtype), local_files_only=True
        )
    train_every_row(model)
    return RewardModel(model, suffix).eval(), tokenizer


def save_reward(reward: RewardModel, tokenizer: PreTrainedTokenizerBase, out: Path, *, dtype: str) -> None:
    """Writes a folder that AutoModelForSequenceClassification loads, with `reward.json`; equal weights, equal bytes."""
    wanted = torch_dtype(dtype)
    model = reward.model if reward.model.dtype == wanted else copy.deepcopy(reward.model).to(wanted)
    with quiet():
        model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / SETTINGS).write_text(json.dumps({"suffix": reward.suffix}) + "\n", encoding="utf-8")


def _export_pad(tokenizer: PreTrainedTokenizerBase) -> int:
    """A pad id other than eos where the tokenizer has one: HF's pooling takes the last token that is not pad."""
    spare = (tokenizer.pad_token_id, tokenizer.unk_token_id)
    return int(next((token for token in spare if token not in (None, tokenizer.eos_token_id)), pad_id(tokenizer)))
