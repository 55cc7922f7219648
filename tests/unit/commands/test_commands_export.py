"""Exports load in Hugging Face's classes and pipelines, and give what ours give."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commands_store import ASKED, REPLIES, byte_tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from cai_lightning.commands import export
from cai_lightning.commands.huggingface import other_prompts, templated
from cai_lightning.commands.players import player
from cai_lightning.experiment.workspace import Workspace
from cai_lightning.models import adapters, templates
from cai_lightning.models.causal import load_causal, load_tokenizer, save_trained
from cai_lightning.models.engine import CausalBackend
from cai_lightning.models.format import Format
from cai_lightning.models.reward import RewardModel, load_reward, reward_from_causal, save_reward
from cai_lightning.stages import import_model, import_reward
from cai_lightning.text.backends import Query, Request, Sampling
from cai_lightning.text.dialogue import Dialogue, Message, human

ALONE: dict[str, Any] = {"base": None, "base_folder": None, "dtype": "float32", "template": templates.own}
GREEDY = Sampling(temperature=0.0, max_new_tokens=24, stop=(), seed=0)
SHORT, LONG = human(ASKED[0]), (*human(ASKED[1]), Message("assistant", REPLIES[1]), *human(ASKED[2]))
DIALOGUES: dict[str, Dialogue] = {
    "one turn": human("say it ."),
    "white space": human(" two\n\nlines \n"),
    "markers inside": human("he said\n\nHuman: no"),
    "several turns": (*human("a"), Message("assistant", "b "), *human("c")),
    "system": (Message("system", "be brief ."), *human("a")),
    "an empty earlier reply": (*human("a"), Message("assistant", ""), *human("c")),
}


def messages(dialogue: Dialogue) -> list[dict[str, str]]:
    roles = {"system": "system", "human": "user", "assistant": "assistant"}
    return [{"role": roles[turn.role], "content": turn.content} for turn in dialogue]


def greedy(folder: Path, dialogues: list[Dialogue]) -> list[str]:
    backend = CausalBackend(*load_causal(folder, dtype="float32"), batch_size=1)
    requests = [Request(str(number), dialogue) for number, dialogue in enumerate(dialogues)]
    return [done.text for done in backend.generate(requests, GREEDY)]


def run_example(out: Path, words: str) -> None:
    """Runs the example of a card on its folder, `words` in every turn."""
    found = re.search("```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    assert found
    exec(found[1].replace('path = "."', f"path = {str(out)!r}").replace('"..."', repr(words)), {})


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("name", DIALOGUES)
def test_the_template_writes_prompts_and_replies_as_they_were_trained(name: str, bos: bool) -> None:
    dialogue, reply = DIALOGUES[name], "yes , sure"
    tokenizer = byte_tokenizer(bos=bos, pad=True)
    ours = Format(tokenizer)
    text, (prompt,), (answer,) = ours.text(dialogue), ours.prompt_ids([dialogue]), ours.reply_ids([reply])
    templated(tokenizer)
    chat = partial(tokenizer.apply_chat_template, return_dict=False)
    assert chat(messages(dialogue), tokenize=False, add_generation_prompt=True) == ("<s>" if bos else "") + text
    assert chat(messages(dialogue), add_generation_prompt=True) == prompt
    assert chat(messages((*dialogue, Message("assistant", reply)))) == prompt + answer
    again = Format(tokenizer)
    assert (again.prompt_ids([dialogue]), again.reply_ids([reply]), again.end) == ([prompt], [answer], ours.end)


def test_the_template_marks_the_last_reply_and_its_end_as_learned() -> None:
    tokenizer = byte_tokenizer(bos=True, pad=True)
    (answer,) = Format(tokenizer).reply_ids(["yes"])
    templated(tokenizer)
    turns = messages((*human("a"), Message("assistant", "b"), *human("c"), Message("assistant", "yes")))
    row = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    assert row["assistant_masks"] == [0] * (len(row["input_ids"]) - len(answer)) + [1] * len(answer)


def test_a_template_of_its_own_stays() -> None:
    tokenizer = byte_tokenizer(bos=False, pad=True)
    tokenizer.chat_template = "{{ messages[0].content }}"
    templated(tokenizer)
    assert tokenizer.chat_template == "{{ messages[0].content }}"


def test_a_causal_export_gives_our_log_probabilities_and_replies(workspace: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export.main(["sft", str(out)], workspace) == 0
    folder = player(workspace, "sft").folder
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    backend = CausalBackend(*load_causal(folder, dtype="float32"), batch_size=2)
    ours = backend.score([Query(LONG, (" " + REPLIES[0], " " + REPLIES[1]))])[0]
    for reply, wanted in zip(REPLIES, ours, strict=True):
        turns = messages((*LONG, Message("assistant", reply)))
        ids = tokenizer.apply_chat_template(turns, return_dict=False, return_tensors="pt")[:, :-1]  # without <eos>
        start = len(tokenizer.apply_chat_template(messages(LONG), return_dict=False, add_generation_prompt=True))
        logps = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[start - 1 :]
        # a sum over dozens of float32 terms, each rounded by 1e-6
        assert logps.sum().item() == pytest.approx(wanted, abs=5e-5)
    chat = pipeline("text-generation", model=model, tokenizer=tokenizer)
    said = chat(messages(SHORT), do_sample=False, max_new_tokens=24, max_length=None)[0]["generated_text"][-1]
    assert said == {"role": "assistant", "content": " " + greedy(folder, [SHORT])[0]}


@pytest.mark.parametrize("key", ["reward_model", "5555"])
def test_a_reward_export_gives_our_scores_alone_and_in_a_padded_batch(
    key: str, workspace: Workspace, tmp_path: Path
) -> None:
    export.main([key, str(tmp_path / "out")], workspace)
    reward, tokenizer = load_reward(player(workspace, key).folder, dtype="float32")
    ours = reward.score_replies(tokenizer, [SHORT, LONG], list(REPLIES), 1)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert model.config.num_labels == 1
    turns = [
        messages((*asked, Message("assistant", reply))) for asked, reply in zip((SHORT, LONG), REPLIES, strict=True)
    ]
    texts = [theirs.apply_chat_template(one, tokenize=False) for one in turns]
    for size in (1, 2):
        classify = pipeline("text-classification", model=model, tokenizer=theirs, batch_size=size)
        scores = [row["score"] for row in classify(texts, add_special_tokens=False)]
        assert scores == pytest.approx(ours, abs=1e-5)
    assert ours[0] != pytest.approx(ours[1], abs=0.01)


def test_a_reward_export_gets_a_pad_token_where_only_the_end_token_pads(
    make_bytes: Callable[..., Path], workspace: Workspace, tmp_path: Path
) -> None:
    folder, kept = make_bytes(bos=True, pad=False), tmp_path / "reward"
    tokenizer = load_tokenizer(folder)
    head = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32).eval()
    torch.nn.init.normal_(head.score.weight, generator=torch.Generator().manual_seed(1))
    reward = RewardModel(head, marker=None, mean=False, gain=1.0)
    ours = reward.score_replies(tokenizer, [human("a"), human("a b c")], ["no", "yes , yes"], 1)
    save_reward(reward, tokenizer, kept, parent=folder, dtype="float32")
    export.main([str(kept), str(tmp_path / "out")], workspace)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert theirs.pad_token_id == model.config.pad_token_id == 259
    classify = pipeline("text-classification", model=model, tokenizer=theirs, batch_size=2)
    chats = [
        messages((*human("a"), Message("assistant", "no"))),
        messages((*human("a b c"), Message("assistant", "yes , yes"))),
    ]
    texts = [theirs.apply_chat_template(chat, tokenize=False) for chat in chats]
    assert [row["score"] for row in classify(texts, add_special_tokens=False)] == pytest.approx(ours, abs=1e-5)


def test_a_template_that_writes_behind_the_end_token_is_cut_in_the_card(
    make_bytes: Callable[..., Path], workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, kept = make_bytes(bos=False, pad=True), tmp_path / "reward"
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = (
        "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
    )
    head = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32).eval()
    torch.nn.init.normal_(head.score.weight, generator=torch.Generator().manual_seed(1))
    reward = RewardModel(head, marker=None, mean=False, gain=1.0)
    (ours,) = reward.score_replies(tokenizer, [human("hm")], ["hm"], 1)
    save_reward(reward, tokenizer, kept, parent=folder, dtype="float32")
    export.main([str(kept), str(tmp_path / "out")], workspace)
    assert r"writes '\n' behind a reply's end token" in capsys.readouterr().err
    run_example(tmp_path / "out", "hm")
    assert float(re.findall(r"'score': ([-\d.e]+)", capsys.readouterr().out)[0]) == pytest.approx(ours, abs=1e-5)


def test_a_template_that_thinks_by_default_is_called_so() -> None:
    tokenizer = byte_tokenizer(bos=False, pad=True)
    tokenizer.chat_template = (
        "{% for m in messages %}<s>{{ m.role }}\n{% if m.role == 'assistant' %}<pad>{% endif %}{{ m.content }}</s>\n"
        "{% endfor %}{% if add_generation_prompt %}<s>assistant\n"
        "{% if enable_thinking is defined and not enable_thinking %}<pad>{% endif %}{% endif %}"
    )
    assert "enable_thinking=False" in str(other_prompts(tokenizer))
    tokenizer.chat_template = tokenizer.chat_template.replace("<pad>", "")
    assert other_prompts(tokenizer) is None


def test_a_mean_pooled_reward_model_is_not_called_equal(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export.main(["6666", str(tmp_path / "out")], workspace)
    assert "warning: HF's class gives other scores" in capsys.readouterr().err
    assert "**Caution:** HF's class gives other scores" in (tmp_path / "out" / "README.md").read_text()
    export.main(["5555", str(tmp_path / "equal")], workspace)
    assert capsys.readouterr().err == ""
    assert "Caution" not in (tmp_path / "equal" / "README.md").read_text()


def test_an_export_can_be_taken_back_and_answers_as_before(workspace: Workspace, tmp_path: Path) -> None:
    export.main(["ppo", str(tmp_path / "out")], workspace)
    (tmp_path / "in").mkdir()
    back = import_model.run(tmp_path / "in", path=tmp_path / "out", **ALONE)
    dialogues = [SHORT, LONG, (Message("system", " sure ."), *SHORT)]
    assert greedy(back, dialogues) == greedy(player(workspace, "ppo").folder, dialogues)


def test_a_snapshot_is_exported_by_its_number(workspace: Workspace, tmp_path: Path) -> None:
    export.main(["ppo@16", str(tmp_path / "out")], workspace)
    assert greedy(tmp_path / "out", [SHORT]) == greedy(player(workspace, "sft").folder, [SHORT])
    assert "after 16 samples" in (tmp_path / "out" / "README.md").read_text()


def test_weights_are_cast_only_if_asked(workspace: Workspace, tmp_path: Path) -> None:
    for given, wanted in (([], torch.float32), (["--dtype", "bfloat16"], torch.bfloat16)):
        out = tmp_path / str(wanted)
        export.main(["sft", str(out), *given], workspace)
        assert AutoModelForCausalLM.from_pretrained(out).dtype == wanted


@pytest.mark.parametrize(
    "key, wanted",
    [("ppo@17", "no such snapshot; there are: @16"), ("labels", "is no model")],
)
def test_what_cannot_be_exported_is_one_line(key: str, wanted: str, workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=wanted):
        export.main([key, str(tmp_path / "out")], workspace)
    assert list(tmp_path.iterdir()) == []


def test_a_full_folder_is_left_alone_and_a_failure_leaves_none(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(ValueError, match="not empty"):
        export.main(["sft", str(tmp_path / "full")], workspace)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]

    def fails(*_: Any) -> str:
        raise RuntimeError

    monkeypatch.setattr(export, "model_card", fails)
    with pytest.raises(RuntimeError):
        export.main(["sft", str(tmp_path / "new")], workspace)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_the_card_says_how_it_was_made(workspace: Workspace, tmp_path: Path) -> None:
    export.main(["ppo", str(tmp_path / "out")], workspace)
    card = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["library_name"] == "transformers" and "constitutional-ai" in front["tags"]
    assert "- **kind** (`40d7cab293328d53`)\n  - critique: identify where the response is violent ." in card
    assert "| loss | 0.5 |" in card
    for name in ("ppo/4444444444444444", "sft/3333333333333333", "revise/2222222222222222", "import_model/1"):
        assert f"| `{name}" in card
    export.main(["reward_model", str(tmp_path / "reward")], workspace)
    assert "| accuracy | 0.75 | 0.5 … 1 | 8 |" in (tmp_path / "reward" / "README.md").read_text()


@pytest.mark.parametrize("key", ["sft", "reward_model"])
def test_the_card_s_example_runs(
    key: str, workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export.main([key, str(tmp_path / "out")], workspace)
    capsys.readouterr()
    run_example(tmp_path / "out", ASKED[0])
    assert capsys.readouterr().out.strip()


@pytest.fixture
def adapter(make_bytes: Callable[..., Path], tmp_path: Path) -> Path:
    """A folder with an adapter that changes something, on a folder of bytes."""
    base = make_bytes(bos=True, pad=True)
    model, tokenizer = load_causal(base, dtype="float32")
    settings: dict[str, Any] = dict(rank=2, alpha=4.0, dropout=0.0, targets=None, rslora=False, dora=False, merge=False)
    adapters.lora(model, **settings, seed=0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    (tmp_path / "adapter").mkdir()
    save_trained(model, tokenizer, tmp_path / "adapter", parent=base, dtype="float32")
    return tmp_path / "adapter"


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")  # peft 0.21 on transformers 5.23
def test_an_adapter_is_exported_with_its_base_or_merged(adapter: Path, workspace: Workspace, tmp_path: Path) -> None:
    from peft import PeftModel

    ids = torch.tensor([[1, 40, 50, 60]])
    with torch.no_grad():
        wanted = load_causal(adapter, dtype="float32")[0](ids).logits
        export.main([str(adapter), str(tmp_path / "merged"), "--merge"], workspace)
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(ids).logits
        export.main([str(adapter), str(tmp_path / "out")], workspace)
        base = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "base")
        plain = base(ids).logits
        apart = PeftModel.from_pretrained(base, tmp_path / "out")(ids).logits
        ours = load_causal(tmp_path / "out", dtype="float32")[0](ids).logits
        back = import_model.run(tmp_path / "in", path=tmp_path / "out", **ALONE)
        again = load_causal(back, dtype="float32")[0](ids).logits
    assert (plain - wanted).abs().max() > 0.01
    for found in (merged, apart, ours, again):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template
    assert "library_name: peft" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
@pytest.mark.parametrize("merge", [True, False])
def test_a_reward_adapter_s_example_gives_our_score(
    merge: bool, adapter: Path, workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = dict(rank=2, alpha=4.0, dropout=0.0, targets=None, rslora=False, dora=False, merge=False)
    one_more = partial(adapters.lora, **settings)
    numbers: dict[str, Any] = dict(marker=None, mean=False, gain=2.0, head_std=0.3, seed=1, dtype="float32")
    reward, tokenizer = reward_from_causal(adapter, adapter=one_more, **numbers)
    (tmp_path / "reward").mkdir()
    save_reward(reward, tokenizer, tmp_path / "reward", parent=adapter, dtype="float32")
    (ours,) = reward.score_replies(tokenizer, [human("hm")], ["hm"], 1)
    export.main([str(tmp_path / "reward"), str(tmp_path / "out"), *(["--merge"] if merge else [])], workspace)
    run_example(tmp_path / "out", "hm")
    assert float(re.findall(r"'score': ([-\d.e]+)", capsys.readouterr().out)[0]) == pytest.approx(ours, abs=1e-5)
    (tmp_path / "in").mkdir()
    again, tokenizer = load_reward(import_reward.run(tmp_path / "in", path=tmp_path / "out", **ALONE), dtype="float32")
    assert again.score_replies(tokenizer, [human("hm")], ["hm"], 1) == [pytest.approx(ours, abs=1e-5)]
