"""Model folders for Hugging Face's libraries: what we save, with a chat template, a pad token and no path of ours."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

from cai_lightning.models.causal import load_causal, load_tokenizer, save_causal
from cai_lightning.models.encoding import begin_ids
from cai_lightning.models.format import Format
from cai_lightning.models.lineage import CONFIG, PARENT, SETTINGS, WEIGHTS, is_reward, lineage
from cai_lightning.models.reward import load_reward, save_reward
from cai_lightning.text.dialogue import human

_PAD = "<|pad|>"
_PROBLEM = "regression"  # or the pipeline would take the sigmoid of a score
BASE = "base"


def stored_dtype(folder: Path) -> str:
    """The dtype that the dense weights below a folder are kept in, such as "float32"."""
    config = json.loads((lineage(folder)[0] / "config.json").read_text(encoding="utf-8"))
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")


def write_causal(folder: Path, out: Path, *, dtype: str) -> None:
    """Writes dense weights, adapters merged, with the tokenizer, its template and the end tokens."""
    model, tokenizer = load_causal(folder, dtype=dtype)
    templated(tokenizer)
    save_causal(model, tokenizer, out, dtype=dtype)


def write_reward(folder: Path, out: Path, *, dtype: str) -> None:
    """Writes a sequence classifier with one label whose pad token is no end token: HF reads the last token but pads."""
    reward, tokenizer = load_reward(folder, dtype=dtype)
    set_pad(reward.model, tokenizer)
    reward.model.config.problem_type = _PROBLEM
    templated(tokenizer)
    save_reward(reward, tokenizer, out, parent=folder, dtype=dtype)


def write_adapter(folder: Path, out: Path, *, hub_id: str | None, dtype: str) -> None:
    """Writes a PEFT folder: the uppermost adapter as it is, what it rests on in `base/` or, alone on it, on the hub.

    Lower adapters are folded into `base/`, in `dtype`; without any it is kept as it is.
    """
    root, layers = lineage(folder)
    below = layers[-2].folder if len(layers) > 1 else root
    for name in (WEIGHTS, "generation_config.json", SETTINGS):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    tokenizer = load_tokenizer(folder)
    templated(tokenizer)
    on_hub = hub_id is not None and below == root
    if not on_hub:
        (out / BASE).mkdir()
        write = write_reward if is_reward(below) else write_causal
        write(below, out / BASE, dtype=dtype if len(layers) > 1 else stored_dtype(root))
        (out / PARENT).write_text(json.dumps({"parent": BASE, "merge": True}) + "\n", encoding="utf-8")
    if is_reward(folder):
        tokenizer.pad_token = spare_pad(tokenizer)
        if tokenizer.pad_token is None:
            raise ValueError(f"{folder}: its tokenizer has no token to pad with but the end token; export with --merge")
        if not on_hub:
            one_label = {
                "id2label": {"0": "LABEL_0"},
                "label2id": {"LABEL_0": 0},
                "pad_token_id": tokenizer.pad_token_id,
            }
            _change(out / BASE / "config.json", one_label)
    tokenizer.save_pretrained(out)
    shutil.copyfile(folder / CONFIG, out / CONFIG)
    _change(out / CONFIG, {"base_model_name_or_path": hub_id if on_hub else BASE})


def _change(file: Path, fields: dict[str, Any]) -> None:
    found = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**found, **fields}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def templated(tokenizer: Any) -> None:
    """Gives a tokenizer without chat template that of Human/Assistant text, with its start token if it writes one."""
    if tokenizer.chat_template is None:
        start = "{{- bos_token }}\n" if begin_ids(tokenizer) else ""
        tokenizer.chat_template = start + human_assistant()


def human_assistant() -> str:
    """Human/Assistant text as a Jinja chat template."""
    return (resources.files("cai_lightning.text") / "human_assistant.jinja").read_text(encoding="utf-8")


def spare_pad(tokenizer: Any) -> str | None:
    """A token to pad with that never ends a reply: the pad token, or the unknown one."""
    ends = {tokenizer.eos_token_id, Format(tokenizer).end}
    spare = [id for id in (tokenizer.pad_token_id, tokenizer.unk_token_id) if id is not None and id not in ends]
    return str(tokenizer.convert_ids_to_tokens(spare[0])) if spare else None


def set_pad(model: Any, tokenizer: Any) -> None:
    """Makes the pad token of model and tokenizer one that never ends a reply; a new one where there is none."""
    if (pad := spare_pad(tokenizer)) is not None:
        tokenizer.pad_token = pad
    else:
        tokenizer.add_special_tokens({"pad_token": _PAD})
        if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.pad_token_id = tokenizer.pad_token_id


def unequal(folder: Path) -> list[str]:
    """Why HF's classifier would score otherwise than ours: nothing, or a reason a line."""
    settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    reasons = []
    if settings["mean"]:
        reasons.append("its score is the mean over all reply tokens, HF's class reads the last token alone")
    if settings["marker"] is not None:
        reasons.append(f"it reads replies behind the mark {settings['marker']!r}, which no chat template writes")
    return reasons


def template_tail(tokenizer: Any) -> str:
    """What the tokenizer's template writes behind the end token of a reply, such as the newline of ChatML."""
    turns = [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}]
    text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    end = tokenizer.convert_ids_to_tokens(Format(tokenizer).end)
    return text.rpartition(end)[2] if end in text else ""


def other_prompts(tokenizer: Any) -> str | None:
    """How the template writes other prompts by default than those of training; None where it writes the same."""
    turns = [{"role": "user", "content": "A"}]
    wanted = Format(tokenizer).text(human("A"))

    def same(**more: Any) -> bool:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **more)
        return bool(text == wanted)

    if same():
        return None
    if same(enable_thinking=False):
        return "it was trained without thinking: pass enable_thinking=False to apply_chat_template"
    return f"its template by itself does not write the prompts of training, such as {wanted!r} (dates, open turns)"
