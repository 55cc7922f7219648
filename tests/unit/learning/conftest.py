from functools import partial
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cai_lightning.learning.optim import adamw, constant
from cai_lightning.learning.processes import automatic
from cai_lightning.models.causal import new_llama

torch.set_num_threads(1)


@pytest.fixture
def llama():
    """A function that makes the same tiny policy every time."""
    return partial(
        new_llama,
        vocab_size=16,
        hidden_size=32,
        layers=2,
        heads=2,
        intermediate_size=64,
        max_positions=64,
        tie=True,
        pad_id=0,
        eos_id=1,
        seed=0,
    )


@pytest.fixture
def recipe():
    """Optimizer and schedule of the overfit tests."""
    return {
        "optimizer": partial(adamw, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0),
        "schedule": partial(constant, warmup_steps=2),
    }


@pytest.fixture
def trainer():
    """The arguments of `fit` that tests seldom change."""
    return {
        "clip": 1.0,
        "precision": "32-true",
        "products": "default",
        "accumulate": 1,
        "checkpoint_activations": False,
        "compile": False,
        "seed": 0,
        "accelerator": "cpu",
        "devices": 1,
        "strategy": automatic,
        "log_every": 1,
        "loggers": [],
        "callbacks": [],
    }


@pytest.fixture
def step():
    """A function that gives the loss of one training step outside a fit."""

    def run(module, batch):
        module.trainer = SimpleNamespace(global_step=0, log_every_n_steps=1, accumulate_grad_batches=1, world_size=1)
        module.log = module.log_dict = Mock()
        return module.training_step(batch, 0)

    return run


@pytest.fixture
def tokenizer():
    """Words with the white space before them; <pad> 0, <eos> 1, <unk> 2, then the markers and letters."""
    words = ["<pad>", "<eos>", "<unk>", "\n\nHuman:", "\n\nAssistant:", *(f" {letter}" for letter in "abcdefghijk")]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s*\S+"), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
