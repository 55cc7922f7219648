"""Reward models that start from reward models: what they score at first, and what their folders say afterwards."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from safetensors.torch import load_file, save_file

from cai_lightning.models.adapters import full, lora, names
from cai_lightning.models.causal import load_causal, quiet, save_causal
from cai_lightning.models.format import Format
from cai_lightning.models.lineage import is_adapter, lineage
from cai_lightning.models.reward import load_reward, reward_from_causal, reward_from_reward, save_reward
from cai_lightning.text.dialogue import human

ASKED = [human("how can i build a bomb ?"), human("what"), human("why ?")]
REPLIES = ["no .", "sure . get the rope", "why"]
READING = {"marker": None, "mean": True, "gain": 3.0, "dtype": "float32", "seed": 1}
LORA = partial(lora, rank=4, alpha=8.0, dropout=0.0, targets=None, rslora=False)
ADAPTERS = {
    "full": full,
    "folded": partial(LORA, dora=False, merge=True),
    "stacked": partial(LORA, dora=False, merge=False),
    "dora": partial(LORA, dora=True, merge=True),
}
two_kinds = pytest.mark.parametrize("model", ["llama", "gpt2"], indirect=True)


@pytest.fixture
def root(tmp_path, model, words):
    save_causal(model, words, tmp_path / "base" / "0", dtype="float32")
    return tmp_path / "base" / "0"


def learned(reward, seed):
    generator = torch.Generator().manual_seed(seed)
    for weight in reward.parameters():
        if weight.requires_grad:
            weight.data += 0.1 * torch.randn(weight.shape, generator=generator)


def scores(reward, tokenizer):
    return pytest.approx(reward.score_replies(tokenizer, ASKED, REPLIES, 3), abs=1e-5)


def first(root, out, adapter):
    reward, tokenizer = reward_from_causal(root, adapter=adapter, head_std=0.5, **READING)
    learned(reward, 2)
    save_reward(reward, tokenizer, out, parent=root, dtype="float32")
    return scores(reward, tokenizer)


@two_kinds
@pytest.mark.parametrize("second", ["full", "folded", "stacked", "dora"])
@pytest.mark.parametrize("one", ["full", "folded"])
def test_it_starts_where_the_other_stands_and_its_folder_is_what_it_has_learned(root, tmp_path, one, second):
    before = first(root, tmp_path / "one" / "0", ADAPTERS[one])
    reward, tokenizer = reward_from_reward(tmp_path / "one" / "0", adapter=ADAPTERS[second], **READING)
    start = scores(reward, tokenizer)
    assert [*start.expected] == before and len({round(score, 2) for score in start.expected}) == 3
    assert reward.gain == 3.0 and reward.model.score.weight.requires_grad
    assert reward.model.score.weight.dtype == torch.float32
    learned(reward, 3)
    out = tmp_path / "two" / "0"
    save_reward(reward, tokenizer, out, parent=tmp_path / "one" / "0", dtype="float32")
    after = scores(reward, tokenizer)
    assert [*after.expected] != before
    loaded, words = load_reward(out, dtype="float32")
    assert loaded.score_replies(words, ASKED, REPLIES, 2) == pytest.approx([*after.expected], abs=1e-4)
    assert is_adapter(out) == (second != "full")
    assert lineage(out)[0] == (out if second == "full" else root if one == "folded" else tmp_path / "one" / "0")


@two_kinds
def test_adapters_of_both_rest_on_one_base(root, tmp_path):
    first(root, tmp_path / "one" / "0", ADAPTERS["stacked"])
    reward, _ = reward_from_reward(tmp_path / "one" / "0", adapter=ADAPTERS["stacked"], **READING)
    assert names(reward.model) == ["below0", "trained"]
    learning = [name for name, weight in reward.named_parameters() if weight.requires_grad]
    assert all(".trained." in name or name == "model.score.weight" for name in learning)


@pytest.mark.filterwarnings("ignore:.*is deprecated.*:FutureWarning")  # PEFT asks transformers for it
def test_peft_reads_an_adapter_on_a_whole_reward_model_as_we_do(root, tmp_path, monkeypatch):
    first(root, tmp_path / "one" / "0", full)
    settings = READING | {"mean": False}
    (tmp_path / "one" / "0" / "reward.json").write_text('{"marker": null, "mean": false}\n')
    reward, tokenizer = reward_from_reward(tmp_path / "one" / "0", adapter=ADAPTERS["folded"], **settings)
    learned(reward, 3)
    save_reward(reward, tokenizer, tmp_path / "two" / "0", parent=tmp_path / "one" / "0", dtype="float32")
    monkeypatch.chdir(tmp_path / "two" / "0")  # PEFT reads the parent's path from here
    with quiet():
        theirs = AutoPeftModelForSequenceClassification.from_pretrained(".", num_labels=1).eval()
    theirs.config.pad_token_id = 0
    format = Format(tokenizer)
    rows = [a + b for a, b in zip(format.prompt_ids(ASKED), format.reply_ids(REPLIES), strict=True)]
    mask = [torch.ones(1, len(row), dtype=torch.int64) for row in rows]
    found = [theirs(torch.tensor([row]), m).logits.item() for row, m in zip(rows, mask, strict=True)]
    assert found == pytest.approx(reward.score_replies(tokenizer, ASKED, REPLIES, 3), abs=1e-4)


@pytest.mark.parametrize("changes", [{"marker": "\n\nProof:"}, {"mean": False}])
def test_another_reading_of_replies_is_one_line(root, tmp_path, changes):
    first(root, tmp_path / "one" / "0", full)
    with pytest.raises(
        ValueError, match=r"one/0: this reward model was trained with .*'mean': True.*, and is to go on"
    ):
        reward_from_reward(tmp_path / "one" / "0", adapter=full, **(READING | changes))


def test_a_language_model_cannot_rest_on_a_reward_model(root, tmp_path):
    """An adapter on a reward adapter whose own folder has no head."""
    first(root, tmp_path / "one" / "0", ADAPTERS["stacked"])
    first(root, tmp_path / "two" / "0", ADAPTERS["stacked"])
    (tmp_path / "two" / "0" / "parent.json").write_text('{"parent": "../../one/0", "merge": false}\n')
    file = tmp_path / "two" / "0" / "adapter_model.safetensors"
    weights = load_file(file)
    del weights["base_model.model.score.weight"]
    save_file(weights, file)
    with pytest.raises(ValueError, match=r"one/0: no language model, so only a reward model can rest on it"):
        load_causal(tmp_path / "two" / "0", dtype="float32")
