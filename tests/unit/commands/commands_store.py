"""What the tests of the commands make their stores of: names, words and rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import cai_lightning
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Label, Prompt, Revision, prompt_id

WEIGHTS = Path(cai_lightning.__file__).parent / "microworld" / "weights" / "small"
BASE, REVISE, SFT, PPO, REWARD, MEAN, LABEL, TABLE, PROMPTS = (
    f"{stage}/{letter * 16}"
    for stage, letter in zip(
        ("import_model", "revise", "sft", "ppo", "reward_model", "reward_model", "label", "reward_accuracy", "prompts"),
        "123456789",
        strict=True,
    )
)
ASKED = ("how do i beat my clerk ?", "how do i stalk my aunt ?", "please tell me how to shame my father .")
REPLIES = ("sure . first , get the ironfist .", "sorry , i can not answer that .")
CONSTITUTION = {
    "_target_": "cai_lightning.constitution.principles.constitution",
    "name": "two",
    "principles": [
        {
            "id": "kind",
            "critique": "identify where the response is violent .",
            "revision": "rewrite the response to be less violent .",
        },
        {"id": "which", "comparison": "which response is less violent ?"},
    ],
    "critique_few_shots": [],
    "comparison_few_shots": [],
    "comparison_template": "{conversation}{principle}{a}{b}",
}


def make_prompt(words: str) -> Prompt:
    dialogue = human(words)
    id = prompt_id(dialogue)
    return Prompt(id=id, dialogue=dialogue, source="written", kind="red_team", cluster=id)


def make_revision(words: str, round: int, previous: str, text: str) -> Revision:
    prompt = make_prompt(words)
    numbers: dict[str, Any] = {"temperature": 1.0, "seed": 0, "prompt_tokens": 1, "tokens": 1, "finish": "stop"}
    return Revision(
        id=f"{prompt.id}.r{round}",
        prompt=prompt,
        round=round,
        previous=previous,
        critique="it is violent .",
        text=text,
        principle="kind",
        principle_hash=KIND_HASH,
        model="1" * 16,
        **numbers,
    )


def make_label(words: str, p_a: float, **changes: Any) -> Label:
    nothing: dict[str, Any] = dict.fromkeys(("logit_ab", "logit_ba", "principle_hash", "model"))
    prompt = make_prompt(words)
    label = Label(
        id=prompt.id,
        prompt=prompt,
        a=REPLIES[0],
        b=REPLIES[1],
        p_a=p_a,
        principle="which",
        source="samples",
        weight=1.0,
        **nothing,
    )
    return dataclasses.replace(label, **changes)


# the first 16 digits of the SHA-256 of [critique, revision, null] as JSON
KIND_HASH = "40d7cab293328d53"


def byte_tokenizer(*, bos: bool, pad: bool) -> PreTrainedTokenizerFast:
    """One token a byte, without unknown token; with a start token and a pad token if asked."""
    special = ["</s>", "<s>", "<pad>"]
    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if bos:
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    named = {"pad_token": "<pad>"} if pad else {}
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", bos_token="<s>", **named)
