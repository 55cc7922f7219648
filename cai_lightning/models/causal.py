"""Causal language models as folders: load, make and save them, always with an explicit dtype and never from a hub.

A folder holds a whole model, or an adapter and the path of the model below it.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from cai_lightning.models.format import Format
from cai_lightning.models.lineage import CONFIG, lineage

NF4 = "nf4"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_GENERIC_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")


def load_causal(path: Path, *, dtype: str, merge: bool = True) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of a folder, in eval mode and in `dtype`, with its tokenizer.

    With `merge` its adapters are folded into the weights; without it, and always on "nf4" weights, those that were
    not folded when they were trained stay, frozen and active. Raises ValueError in one line when the folder holds no
    model, no tokenizer or no end token.
    """
    tokenizer = load_tokenizer(path)
    model, others = load_layers(path, dtype=dtype, merge=merge)
    if others:
        raise ValueError(
            f"{path}: no language model: its adapter comes with {', '.join(others)}; is it a reward model?"
        )
    eos_ids(tokenizer, model)
    return model, tokenizer


def load_layers(
    path: Path, *, dtype: str, merge: bool, kind: Any = AutoModelForCausalLM
) -> tuple[PreTrainedModel, dict[str, Tensor]]:
    """The model of a folder as `load_causal` gives it, and what else than an adapter the folder holds.

    `kind` is the class of what lies at the root.
    """
    root, layers = lineage(path)
    with quiet():
        model = kind.from_pretrained(root, **number_format(dtype), local_files_only=True).eval()
    train_every_row(model)
    if not layers:
        return model, {}
    from cai_lightning.models.adapter_files import put_layers
    from cai_lightning.models.adapters import fold, quantised

    others = put_layers(model, layers)
    if merge and not quantised(model):
        fold(model)
    if (path / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(path, local_files_only=True)
    return model.eval(), others


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder. Raises ValueError when the folder is not one."""
    if not any((path / name).is_file() for name in ("config.json", CONFIG)):
        raise ValueError(f"{path}: no model here: config.json is missing; give the folder of a saved model")
    if not any((path / name).is_file() for name in _TOKENIZER_FILES):
        raise ValueError(f"{path}: no tokenizer beside the model: tokenizer.json is missing; save both into one folder")
    settings = path / "tokenizer_config.json"
    declared = json.loads(settings.read_text(encoding="utf-8")).get("tokenizer_class") if settings.is_file() else None
    # AutoTokenizer prefers the architecture's own class to a generic one: a Qwen2 with a word tokenizer would silently
    # get Qwen2's and encode every text to nothing
    kind = PreTrainedTokenizerFast if declared in _GENERIC_TOKENIZERS else AutoTokenizer
    tokenizer: PreTrainedTokenizerBase = kind.from_pretrained(path, local_files_only=True)
    for name in ("is_local", "local_files_only"):  # how it was loaded is no property of it and would be saved
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer


def new_llama(
    *,
    vocab_size: int,
    hidden_size: int,
    layers: int,
    heads: int,
    intermediate_size: int,
    max_positions: int,
    tie: bool,
    pad_id: int,
    eos_id: int,
    seed: int,
) -> LlamaForCausalLM:
    """A float32 Llama whose weights are a function of the arguments alone; the global random state stays as it was.

    Matrices are normal with sd 0.6 / sqrt(inputs), the two that write into the residual stream further divided by
    sqrt(2 layers) (GPT-2's rule); embeddings and an untied head have sd 0.02. Wider than HF's flat 0.02 for small
    models, which learn faster from it.
    """
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        intermediate_size=intermediate_size,
        max_position_embeddings=max_positions,
        tie_word_embeddings=tie,
        pad_token_id=pad_id,
        eos_token_id=eos_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng():
        model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            embedding = "embed_tokens" in name or "lm_head" in name
            sd = 0.02 if embedding else 0.6 / math.sqrt(weight.shape[1])
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                sd /= math.sqrt(2 * layers)
            nn.init.normal_(weight, std=sd, generator=generator)
    train_every_row(model)
    return model.eval()


def save_causal(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path, *, dtype: str) -> None:
    """Writes a `save_pretrained` folder in `dtype`; equal weights give equal bytes. The model keeps its own dtype."""
    wanted = torch_dtype(dtype)
    if model.dtype != wanted:
        model = copy.deepcopy(model).to(wanted)
    model.generation_config = _ends(model, tokenizer)
    with quiet():
        model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def save_trained(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path, *, parent: Path, dtype: str
) -> None:
    """Writes what a stage has trained on `parent`: the adapter alone where there is one, else the whole model."""
    if not hasattr(model, "peft_config"):
        save_causal(model, tokenizer, out, dtype=dtype)
        return
    from cai_lightning.models.adapter_files import write

    tokenizer.save_pretrained(out)
    _ends(model, tokenizer).save_pretrained(out)
    write(model, out, parent=parent, task="CAUSAL_LM", others={}, dtype=torch_dtype(dtype))


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    ends = eos_ids(tokenizer, model)
    return GenerationConfig(
        eos_token_id=list(ends) if len(ends) > 1 else ends[0],
        pad_token_id=pad_id(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
    )


def eos_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> tuple[int, ...]:
    """The ids that end a reply: that of the format, which replies are trained with, then the tokenizer's and the
    generation config's others. Raises ValueError when the tokenizer has none.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError(f"{tokenizer.name_or_path or 'tokenizer'}: no eos token, so no reply could end; set eos_token")
    others = getattr(model.generation_config, "eos_token_id", None)
    others = [] if others is None else [others] if isinstance(others, int) else others
    return tuple(dict.fromkeys([Format(tokenizer).end, tokenizer.eos_token_id, *others]))


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """An id to fill rows with; it may be the end token, so masks must come from lengths, never from ids."""
    found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    if found is None:
        raise ValueError(f"{tokenizer.name_or_path or 'tokenizer'}: neither pad nor eos token; set eos_token")
    return int(found)


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype called `name`, such as "float32". Raises ValueError on anything else."""
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"dtype {name!r} is not a torch dtype; use float32 or bfloat16")
    return found


def number_format(name: str) -> dict[str, Any]:
    """What `from_pretrained` is told of a dtype; "nf4" is 4-bit NormalFloat, double-quantised, computed in bfloat16.

    Source of nf4: Dettmers et al. 2023 (QLoRA). Raises ValueError where it needs a CUDA device or bitsandbytes.
    """
    if name != NF4:
        return {"dtype": torch_dtype(name)}
    lacks = None if torch.cuda.is_available() else "a CUDA device"
    if importlib.util.find_spec("bitsandbytes") is None:
        lacks = "bitsandbytes (pip install cai-lightning[gpu])"
    if lacks:
        raise ValueError(f"dtype nf4 needs {lacks}, and there is none here; supply it, or take bfloat16")
    bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"dtype": torch.bfloat16, "quantization_config": bits}


def train_every_row(model: Any) -> None:
    """Lets the pad row of the embedding learn: `padding_idx` would freeze the end token wherever pad is eos."""
    model.get_input_embeddings().padding_idx = None


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module is in the mode it was in, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Transformers without progress bars and reports inside; its settings come back afterwards."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
