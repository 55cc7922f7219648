"""The model card: front matter, use, recipe, principles, figures, lineage. Plain text; the hub is never asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from cai_lightning import __version__
from cai_lightning.commands import origins
from cai_lightning.commands.figures import figures_section
from cai_lightning.commands.players import Player
from cai_lightning.commands.workspace import Result, Workspace

_HEAD = 'path = "."  # this folder\ntokenizer = AutoTokenizer.from_pretrained(path)\n'
_CAUSAL = """from transformers import AutoModelForCausalLM, AutoTokenizer
{peft}
{head}{model}
messages = [{{"role": "user", "content": "..."}}]
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, max_new_tokens=64)[0, ids["input_ids"].shape[1]:]))
"""
_REWARD = """from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
{peft}
{head}{model}
messages = [{{"role": "user", "content": "..."}}, {{"role": "assistant", "content": "..."}}]
text = tokenizer.apply_chat_template(messages, tokenize=False){cut}
score = pipeline("text-classification", model=model, tokenizer=tokenizer)
print(score(text, add_special_tokens=False))  # the template has written them; the raw score, larger is better
"""
_ONE_LABEL = ', num_labels=1, problem_type="regression", pad_token_id=tokenizer.pad_token_id'
_PLAIN = "model = {auto}.from_pretrained(path)\n"
_PEFT = "model = PeftModel.from_pretrained({auto}.from_pretrained({base}), path)\n"


class Written(NamedTuple):
    """What an export wrote: a reward model or a language model, dense or an adapter, and what a user must know.

    `base` is what an adapter rests on, as its config says; `cut` what the template writes behind a reply's end token.
    """

    reward: bool
    base: str | None
    dtype: str
    cut: str
    cautions: Sequence[str]


def model_card(player: Player, written: Written, workspace: Workspace) -> str:
    """README.md of an exported model."""
    result, hub_id = player.result, base_on_hub(player.result)
    kind = "reward model" if written.reward else "causal language model"
    stage = result.manifest.get("stage")
    made = f" made by the stage `{stage}` of cai_lightning {__version__}" if stage else " from outside"
    at = "" if player.sequences is None else f", as it was after {player.sequences} samples of reinforcement learning"
    parts = [
        _front(written, stage, hub_id),
        f"# {Path(result.name).name if not stage else result.name}\n\n",
        f"A {kind}{made}{at}. Weights: {written.dtype}.\n\n",
        *(f"**Caution:** {caution}.\n\n" for caution in written.cautions),
        f"## Use\n\n```python\n{_use(written)}```\n\n",
        origins.recipe_section(result),
        origins.constitution_section(origins.constitutions(result, workspace)),
        figures_section(player, workspace.outputs),
        origins.lineage_section(result),
        origins.versions_section(result),
        _licence(result, hub_id),
    ]
    return "".join(parts).rstrip() + "\n"


def root(result: Result) -> Result:
    """The result that the weights of a model go back to, along its `policy` edges."""
    edge = result.manifest.get("recipe", {}).get("policy")
    if isinstance(edge, dict) and "stage" in edge:
        for above in result.upstream.values():
            if above.name.endswith(f"/{edge['stage']}"):
                return root(above)
    return result


def base_on_hub(result: Result) -> str | None:
    """The hub id that the weights go back to, or None where they came from a folder or from scratch."""
    found = root(result).manifest.get("recipe", {}).get("hub_id")
    return str(found) if found else None


def _front(written: Written, stage: str | None, hub_id: str | None) -> str:
    tags = ["constitutional-ai", "cai-lightning", *([stage.replace("_", "-")] if stage else [])]
    fields: dict[str, Any] = {
        "library_name": "transformers" if written.base is None else "peft",
        "pipeline_tag": "text-classification" if written.reward else "text-generation",
        "tags": list(dict.fromkeys([*tags, *(["reward-model"] if written.reward else [])])),
        "license": "other",
        "license_name": "as-the-base-model",
    }
    if hub_id is not None:
        fields |= {"base_model": hub_id, "base_model_relation": "finetune" if written.base is None else "adapter"}
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---\n\n"


def _use(written: Written) -> str:
    auto = "AutoModelForSequenceClassification" if written.reward else "AutoModelForCausalLM"
    if written.base is None:
        model, peft = _PLAIN.format(auto=auto), ""
    else:
        base = 'path + "/base"' if written.base == "base" else repr(written.base)
        more = _ONE_LABEL if written.reward else ""
        model, peft = _PEFT.format(auto=auto, base=base + more), "from peft import PeftModel\n"
    cut = f".removesuffix({written.cut!r})  # the score is read at the end token" if written.cut else ""
    return (_REWARD if written.reward else _CAUSAL).format(peft=peft, head=_HEAD, model=model, cut=cut)


def _licence(result: Result, hub_id: str | None) -> str:
    base = f"`{hub_id}`" if hub_id else f"`{root(result).name}` (see the lineage)"
    return f"## Licence\n\nAs the base model's, {base}, and subject to the terms of the data it was trained on.\n"
