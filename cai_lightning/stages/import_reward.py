"""A reward model from outside, taken into the store: a sequence classifier with one label, whoever trained it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from cai_lightning.stages.import_model import check, take
from cai_lightning.stages.import_model import estimate as estimate
from cai_lightning.text.artifacts import CausalLM, RewardModel, Source


def run(
    out: Path,
    *,
    path: Source,
    base: CausalLM | None,
    base_folder: Source | None,
    dtype: str,
    template: Callable[[Path], None],
) -> RewardModel:
    """A reward model folder: the files of `path`, with `template`'s template, and a `reward.json` where it has none.

    A model that is not ours reads a dialogue in its own format and scores at the end token, as HF's class does where
    another token pads; without a template it reads Human/Assistant text. Adapters are taken as by `import_model`.
    Raises ValueError where the model gives other than one score, or where HF's class reads another token.
    """
    from cai_lightning.models.lineage import SETTINGS, is_adapter, is_reward
    from cai_lightning.models.reward import load_reward, save_reward

    def set_up(folder: Path) -> None:
        if not is_reward(folder):
            (folder / SETTINGS).write_text(json.dumps({"marker": None, "mean": False}) + "\n", encoding="utf-8")

    def merge(folder: Path) -> None:
        set_up(folder)
        save_reward(*load_reward(folder, dtype=dtype), out, parent=folder, dtype=dtype)

    take(path, out, base=base, base_folder=base_folder, head=True, merge=merge)
    template(out)
    set_up(out)
    check(out)
    if not is_adapter(path):
        _check_classifier(out)
    if not is_reward(path):
        _check_end(out, in_config=not is_adapter(path))
    return out


def _check_classifier(folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if not any(name.endswith("ForSequenceClassification") for name in config.architectures or ()):
        raise ValueError(f"{folder}: no reward model: config.json names {config.architectures}, no sequence classifier")
    if config.num_labels != 1:
        raise ValueError(f"{folder}: its head gives {config.num_labels} numbers; a reward model gives one (num_labels)")
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    head = getattr(model, "score", None)
    if not isinstance(head, torch.nn.Linear) or head.bias is not None:
        raise ValueError(f"{folder}: a {type(model).__name__} has no head `score` without bias, so it cannot be read")


def _check_end(folder: Path, *, in_config: bool) -> None:
    """Raises ValueError where HF's class scores the token before the end token: it looks for the last that is no pad.

    The pad token is that of config.json, or, of an adapter, that of the tokenizer, which training takes over.
    """
    from transformers import AutoConfig

    from cai_lightning.models.causal import load_tokenizer
    from cai_lightning.models.format import Format

    tokenizer = load_tokenizer(folder)
    config = AutoConfig.from_pretrained(folder, local_files_only=True) if in_config else tokenizer
    if config.pad_token_id == Format(tokenizer).end:
        raise ValueError(
            f"{folder}: it pads with the end token {tokenizer.eos_token!r}, so it was read at the token before that, "
            "and here it would be at the end token; if it was trained with another pad token, name that in the folder"
        )
