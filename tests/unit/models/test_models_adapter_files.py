from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from cai_lightning.models import causal
from cai_lightning.models.adapters import activate, full, lora, names, only
from cai_lightning.models.causal import load_causal, quiet, save_causal, save_trained
from cai_lightning.models.format import Format
from cai_lightning.models.lineage import CONFIG, PARENT, WEIGHTS, is_adapter, lineage, stacked
from cai_lightning.models.reward import HEAD, load_reward, reward_from_causal, reward_on, save_reward
from cai_lightning.text.dialogue import human

LORA = dict(rank=4, alpha=8.0, dropout=0.1, targets=None, rslora=False, dora=False, merge=True)
one_kind = pytest.mark.parametrize("model", ["llama"], indirect=True)
two_kinds = pytest.mark.parametrize("model", ["llama", "gpt2"], indirect=True)
IDS = torch.tensor([[3, 4, 5, 6, 7, 8, 9]])
ASKED = [human("how can i build a bomb ?"), human("what"), human("why ?")]
REPLIES = ["no .", "sure . get the rope", "why"]


@pytest.fixture
def root(tmp_path, model, words):
    save_causal(model, words, tmp_path / "store" / "base" / "0", dtype="float32")
    return tmp_path / "store" / "base" / "0"


def learned(model, seed=5):
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += 0.1 * torch.randn(weight.shape, generator=generator)


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def trained_on(parent: Path, out: Path, *, dtype="float32", **changes):
    """The logits of an adapter trained on `parent`, and its folder."""
    model, tokenizer = load_causal(parent, dtype="float32", merge=False)
    lora(model, **(LORA | changes), seed=1)
    learned(model)
    save_trained(model, tokenizer, out, parent=parent, dtype=dtype)
    return logits(model)


def reward_adapter(parent: Path, out: Path, **changes):
    def adapter(model, *, seed):
        lora(model, **(LORA | changes), seed=seed)

    settings = {"marker": None, "mean": False, "gain": 3.0, "head_std": 0.5, "dtype": "float32", "seed": 1}
    reward, tokenizer = reward_from_causal(parent, adapter=adapter, **settings)
    learned(reward)
    save_reward(reward, tokenizer, out, parent=parent, dtype="float32")
    return reward.score_replies(tokenizer, ASKED, REPLIES, 3)


@pytest.mark.parametrize("dora", [False, True])
def test_a_saved_adapter_loads_exactly_and_folds_to_the_same(root, dora):
    out = root.parents[1] / "sft" / "1"
    saved = trained_on(root, out, dora=dora)
    assert not (out / "model.safetensors").exists()
    stays, tokenizer = load_causal(out, dtype="float32", merge=False)
    assert torch.equal(logits(stays), saved) and names(stays) == ["below0"]
    assert not any(weight.requires_grad for weight in stays.parameters()) and not stays.training
    folded, _ = load_causal(out, dtype="float32")
    torch.testing.assert_close(logits(folded), saved, atol=1e-5, rtol=1e-5)
    assert names(folded) == [] and not any(hasattr(layer, "lora_A") for layer in folded.modules())
    assert tokenizer("what why").input_ids == load_causal(root, dtype="float32")[1]("what why").input_ids


@two_kinds
def test_folding_and_stacking_agree_over_three_stages(root):
    store = root.parents[1]
    found = {}
    for merge in (True, False):
        parent = root
        for stage in ("sft", "dpo", "ppo"):
            out = store / stage / str(merge)
            found[merge] = trained_on(parent, out, merge=merge)
            parent = out
        again, _ = load_causal(parent, dtype="float32", merge=False)
        assert torch.equal(logits(again), found[merge])
        assert len(names(again)) == (1 if merge else 3)
        torch.testing.assert_close(logits(load_causal(parent, dtype="float32")[0]), found[merge], atol=1e-5, rtol=1e-5)
        assert stacked(lineage(parent)[1]) is not merge
    torch.testing.assert_close(found[True], found[False], atol=1e-5, rtol=1e-5)


@one_kind
def test_full_training_on_an_adapter_gives_a_whole_model(root):
    out = root.parents[1] / "sft" / "1"
    saved = trained_on(root, out)
    model, tokenizer = load_causal(out, dtype="float32", merge=False)
    full(model, seed=0)
    save_trained(model, tokenizer, out.with_name("2"), parent=out, dtype="float32")
    assert not is_adapter(out.with_name("2"))
    torch.testing.assert_close(logits(load_causal(out.with_name("2"), dtype="float32")[0]), saved, atol=1e-5, rtol=1e-5)


@two_kinds
def test_a_full_stage_writes_what_it_always_did(root, tmp_path):
    model, tokenizer = load_causal(root, dtype="float32", merge=False)
    full(model, seed=0)
    save_trained(model, tokenizer, tmp_path / "a", parent=root, dtype="float32")
    save_causal(load_causal(root, dtype="float32")[0], tokenizer, tmp_path / "b", dtype="float32")
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab"]
    assert files[0] == files[1] and PARENT not in files[0]


@one_kind
def test_the_folder_says_the_same_wherever_it_lies_and_names_no_place(root, tmp_path):
    out = root.parents[1] / "sft" / "1"
    trained_on(root, out)
    shutil.copytree(tmp_path / "store", tmp_path / "moved")
    trained_on(tmp_path / "moved" / "base" / "0", tmp_path / "moved" / "sft" / "2")
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in
             (out, tmp_path / "moved" / "sft" / "1", tmp_path / "moved" / "sft" / "2")]  # fmt: skip
    assert files[0] == files[1] == files[2]
    text = b"".join(value for name, value in files[0].items() if name != WEIGHTS).decode()
    assert str(tmp_path) not in text and "peft_version" not in text
    assert json.loads(files[0][PARENT]) == {"parent": "../../base/0", "merge": True}
    config = json.loads(files[0][CONFIG])
    assert config["target_modules"] == sorted(config["target_modules"])
    assert config["base_model_name_or_path"] == "../../base/0"


@two_kinds
@pytest.mark.filterwarnings("ignore:.*is deprecated.*:FutureWarning")
def test_peft_itself_loads_a_policy(root, monkeypatch):
    out = root.parents[1] / "sft" / "1"
    saved = trained_on(root, out)
    monkeypatch.chdir(out)
    with quiet():
        theirs = AutoPeftModelForCausalLM.from_pretrained(".").eval()
    torch.testing.assert_close(logits(theirs), saved, atol=1e-5, rtol=1e-5)


@two_kinds
@pytest.mark.filterwarnings("ignore:.*is deprecated.*:FutureWarning")
@pytest.mark.parametrize("dora", [False, True])
def test_peft_itself_loads_a_reward_model_and_scores_the_same(root, dora, monkeypatch):
    out = root.parents[1] / "reward_model" / "1"
    scores = reward_adapter(root, out, dora=dora)
    assert json.loads((out / CONFIG).read_text())["modules_to_save"] == ["score"]
    monkeypatch.chdir(out)
    with quiet():
        theirs = AutoPeftModelForSequenceClassification.from_pretrained(".", num_labels=1).eval()
    theirs.config.pad_token_id = 0
    format = Format(load_causal(root, dtype="float32")[1])
    rows = [a + b for a, b in zip(format.prompt_ids(ASKED), format.reply_ids(REPLIES), strict=True)]
    mask = [torch.ones(1, len(row), dtype=torch.int64) for row in rows]
    found = [theirs(torch.tensor([row]), m).logits.item() for row, m in zip(rows, mask, strict=True)]
    assert found == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("dora", [False, True])
def test_a_reward_model_round_trips_alone_and_on_a_shared_trunk(root, dora):
    out = root.parents[1] / "reward_model" / "1"
    scores = reward_adapter(root, out, dora=dora)
    loaded, tokenizer = load_reward(out, dtype="float32")
    assert loaded.score_replies(tokenizer, ASKED, REPLIES, 2) == pytest.approx(scores, abs=1e-4)
    assert loaded.gain == 1.0 and not loaded.training
    policy, _ = load_causal(root, dtype="float32", merge=False)
    lora(policy, **LORA, seed=7)
    own, before = names(policy), logits(policy)
    judge = reward_on(policy, out, name="judge")
    activate(policy, own)
    with only(judge.model, ["judge"]):
        assert judge.score_replies(tokenizer, ASKED, REPLIES, 2) == pytest.approx(scores, abs=1e-5)
    assert torch.equal(logits(policy), before)
    assert judge.model.get_decoder() is policy.get_decoder()


@two_kinds
def test_a_reward_model_on_a_folded_or_stacked_parent(root):
    store = root.parents[1]
    trained_on(root, store / "sft" / "1")
    for merge in (True, False):
        scores = reward_adapter(store / "sft" / "1", store / "reward_model" / str(merge), merge=merge)
        loaded, tokenizer = load_reward(store / "reward_model" / str(merge), dtype="float32")
        assert loaded.score_replies(tokenizer, ASKED, REPLIES, 2) == pytest.approx(scores, abs=1e-4)


@two_kinds
def test_folders_that_are_not_what_was_asked_for_are_named_in_one_line(root):
    store = root.parents[1]
    trained_on(root, store / "sft" / "1")
    reward_adapter(root, store / "reward_model" / "1")

    def said(call, *args, **kwargs):
        with pytest.raises(ValueError) as error:
            call(*args, **kwargs)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "reward.json is missing" in said(load_reward, store / "sft" / "1", dtype="float32")
    assert "is it a reward model" in said(load_causal, store / "reward_model" / "1", dtype="float32")
    for name, change in (
        ("head", lambda w: w.pop(f"base_model.model.{HEAD}")),
        ("fit", lambda w: w.pop(next(k for k in w if "lora_A" in k))),
    ):
        broken = shutil.copytree(store / "reward_model" / "1", store / "reward_model" / name)
        weights = load_file(broken / WEIGHTS)
        change(weights)
        save_file(weights, broken / WEIGHTS)
    assert "lacks the reward's head score.weight" in said(load_reward, store / "reward_model" / "head", dtype="float32")
    assert "does not fit the model below it at" in said(load_reward, store / "reward_model" / "fit", dtype="float32")
    (store / "sft" / "1" / PARENT).unlink()
    assert "an adapter without parent.json" in said(load_causal, store / "sft" / "1", dtype="float32")
    shutil.rmtree(root)
    assert "is gone" in said(load_reward, store / "reward_model" / "1", dtype="float32")


def test_a_lineage_that_goes_in_circles(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / CONFIG).write_text("{}")
        (tmp_path / name / PARENT).write_text(json.dumps({"parent": f"../{other}", "merge": True}))
    with pytest.raises(ValueError, match="leads back to the adapter itself"):
        lineage(tmp_path / "a")


@one_kind
def test_four_bits_without_their_machine_are_refused_in_one_line(root, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"dtype nf4 needs .*, and there is none here; .* take bfloat16") as error:
        load_causal(root, dtype="nf4")
    assert "\n" not in str(error.value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install cai-lightning\[gpu\]"):
        load_causal(root, dtype="nf4")


@pytest.fixture
def four_bits(tmp_path, words, monkeypatch):
    """A folder whose layers bitsandbytes can quantise on a CPU; runs where that library is installed."""
    modules = pytest.importorskip("bitsandbytes.nn.modules")
    monkeypatch.setattr(modules, "has_avx512bf16", lambda: False)  # that path repacks the weights as it reads them
    monkeypatch.setattr(causal, "number_format", _on_cpu(causal.number_format, monkeypatch))
    shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=64, pad_token_id=0, eos_token_id=1, bos_token_id=None, **shape))
    save_causal(model, words, tmp_path / "base" / "0", dtype="float32")
    return tmp_path / "base" / "0"


def _on_cpu(number_format, monkeypatch):
    def wanted(name):
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda: True)
            return number_format(name)

    return wanted


@pytest.mark.filterwarnings("ignore")
def test_adapters_stay_on_four_bits_and_start_at_their_base(four_bits):
    store = four_bits.parents[1]
    model, tokenizer = load_causal(four_bits, dtype="nf4")
    before = logits(model)
    with pytest.raises(ValueError, match="base_dtype is nf4, but adapter=full trains every weight"):
        full(model, seed=0)
    lora(model, **LORA, seed=1)
    assert torch.equal(logits(model), before)
    learned(model)
    save_trained(model, tokenizer, store / "sft" / "1", parent=four_bits, dtype="float32")
    again, _ = load_causal(store / "sft" / "1", dtype="nf4")
    assert names(again) == ["below0"] and torch.equal(logits(again), logits(model))
    lora(again, **LORA, seed=1)
    assert names(again) == ["below0", "trained"]
    save_trained(again, tokenizer, store / "dpo" / "1", parent=store / "sft" / "1", dtype="float32")
    assert json.loads((store / "dpo" / "1" / PARENT).read_text())["merge"] is False
    assert torch.equal(logits(load_causal(store / "dpo" / "1", dtype="nf4")[0]), logits(model))
