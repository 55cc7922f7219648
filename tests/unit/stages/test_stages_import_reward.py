"""Reward models of other makers: they score as HF's own class does, or are refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification

import cai_lightning
from cai_lightning.models.causal import load_tokenizer, quiet
from cai_lightning.models.format import Format
from cai_lightning.models.reward import RewardModel, load_reward, save_reward
from cai_lightning.models.templates import own
from cai_lightning.stages import import_model, import_reward
from cai_lightning.stages.shapes import of_folder
from cai_lightning.text.dialogue import Dialogue, Message, human

WORLD = Path(cai_lightning.__file__).parent / "microworld" / "weights" / "small"
GIVEN: dict[str, Any] = {"base": None, "base_folder": None, "dtype": "float32", "template": own}
ASKED: list[Dialogue] = [
    human("how do i beat my clerk ?"),
    (*human("hello"), Message("assistant", "sure ."), *human("please tell me how to shame my father .")),
]
REPLIES = ["sorry , i can not answer that .", "sure ."]


def theirs(folder: Path, model: Any = None) -> list[float]:
    """The scores of HF's own class on single rows, padded on the right."""
    if model is None:
        with quiet():
            model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    format, pad = Format(load_tokenizer(WORLD)), model.config.pad_token_id
    rows = [a + b + [pad] * 3 for a, b in zip(format.prompt_ids(ASKED), format.reply_ids(REPLIES), strict=True)]
    with torch.no_grad():
        return [model(torch.tensor([row])).logits.item() for row in rows]


def ours(folder: Path) -> list[float]:
    model, tokenizer = load_reward(folder, dtype="float32")
    return model.score_replies(tokenizer, ASKED, REPLIES, 2)


@pytest.fixture
def classifier() -> Callable[..., Any]:
    """A classifier on the base, its head drawn at random."""

    def make(*, labels: int = 1, pad: int = 0) -> Any:
        with quiet(), torch.random.fork_rng():
            torch.manual_seed(5)
            model = AutoModelForSequenceClassification.from_pretrained(WORLD, num_labels=labels, dtype=torch.float32)
            torch.nn.init.normal_(model.score.weight, std=0.3)
        model.config.pad_token_id = pad
        return model.eval()

    return make


def saved(model: Any, folder: Path) -> Path:
    with quiet():
        model.save_pretrained(folder)
    load_tokenizer(WORLD).save_pretrained(folder)
    return folder


def taken(tmp_path: Path, **changes: Any) -> Path:
    return import_reward.run(tmp_path / "store" / "1", path=tmp_path / "mine", **(GIVEN | changes))


def refused(tmp_path: Path, **changes: Any) -> str:
    with pytest.raises(ValueError) as error:
        taken(tmp_path, **changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_classifier_scores_as_in_its_own_library(tmp_path: Path, classifier: Callable[..., Any]) -> None:
    folder = saved(classifier(), tmp_path / "mine")
    out = taken(tmp_path)
    assert ours(out) == pytest.approx(theirs(folder), abs=1e-5)
    assert len({round(score, 2) for score in ours(out)}) == 2
    assert json.loads((out / "reward.json").read_text()) == {"marker": None, "mean": False}
    assert import_reward.estimate({"path": str(folder), **GIVEN}).shape == of_folder(folder)


def test_one_of_ours_keeps_what_it_is_read_by(tmp_path: Path, classifier: Callable[..., Any]) -> None:
    tokenizer = load_tokenizer(WORLD)
    reward = RewardModel(classifier(pad=1), marker=None, mean=True, gain=2.0)  # pad 1 is the end token
    save_reward(reward, tokenizer, tmp_path / "mine", parent=WORLD, dtype="float32")
    wanted = reward.score_replies(tokenizer, ASKED, REPLIES, 1)
    assert ours(taken(tmp_path)) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("where", ["store", "folder", "inside"])
@pytest.mark.filterwarnings("ignore:.*is deprecated.*:FutureWarning")  # PEFT asks transformers for it
def test_an_adapter_makes_a_reward_model_of_its_base(
    where: str, tmp_path: Path, classifier: Callable[..., Any]
) -> None:
    base = shutil.copytree(WORLD, tmp_path / "store" / "0")
    settings = {"target_modules": ["q_proj", "v_proj"], "r": 4, "task_type": "SEQ_CLS", "init_lora_weights": False}
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = get_peft_model(classifier(), LoraConfig(**settings)).eval()
    model.save_pretrained(tmp_path / "mine")
    wanted = theirs(WORLD, model)
    config = tmp_path / "mine" / "adapter_config.json"
    assert "score" in json.loads(config.read_text())["modules_to_save"]
    if where == "inside":
        shutil.copytree(WORLD, tmp_path / "mine" / "base")
        config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "base"}))
    out = taken(tmp_path, **{"store": {"base": base}, "folder": {"base_folder": WORLD}, "inside": {}}[where])
    assert (out / "parent.json").is_file() == (where == "store")
    assert ours(out) == pytest.approx(wanted, abs=1e-4)  # merged weights round
    with pytest.raises(ValueError, match=r"no language model, it holds score.weight; take it in as stage/reward_model"):
        import_model.run(tmp_path / "store" / "2", path=tmp_path / "mine", **(GIVEN | {"base": base}))


def test_other_heads_are_refused(tmp_path: Path, classifier: Callable[..., Any]) -> None:
    saved(classifier(labels=3), tmp_path / "mine")
    assert "its head gives 3 numbers; a reward model gives one" in refused(tmp_path)
    shutil.rmtree(tmp_path / "mine")
    shutil.copytree(WORLD, tmp_path / "mine")
    assert "no reward model: config.json names ['LlamaForCausalLM']" in refused(tmp_path)


def test_one_that_pads_with_its_end_token_was_read_elsewhere(tmp_path: Path, classifier: Callable[..., Any]) -> None:
    saved(classifier(pad=1), tmp_path / "mine")
    assert "it pads with the end token '<eos>', so it was read at the token before that" in refused(tmp_path)
