from __future__ import annotations

import json
from pathlib import Path

import pytest

from cai_lightning.data import tiny_model

TEXTS = ["\n\nHuman: hello there\n\nAssistant: hello  you — 日本 \ue000", "\n\nHuman: (A) or (B)?"]


def make(monkeypatch: pytest.MonkeyPatch, text: Path, out: Path, *more: str) -> None:
    monkeypatch.setattr("sys.argv", ["tiny_model", "--text", str(text), "--out", str(out), "--layers", "1", *more])
    tiny_model.main()


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"chosen": line, "n": 1}) + "\n" for line in TEXTS), encoding="utf-8")
    return path


def test_the_folder_loads_and_its_tokenizer_loses_nothing(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make(monkeypatch, text, tmp_path / "one", "--vocabulary", "300")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    for line in [*TEXTS, " \n\n x ", "ﬀ🙂"]:
        assert tokenizer.decode(tokenizer(line)["input_ids"]) == line
    assert len(tokenizer) <= 300 and model.config.vocab_size == len(tokenizer)
    assert tokenizer.eos_token_id == model.config.eos_token_id != tokenizer.pad_token_id
    assert tokenizer.bos_token is None


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2"])
def test_a_chat_folder_of_any_kind_writes_its_template(
    kind: str, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cai_lightning.models.causal import eos_ids, load_causal
    from cai_lightning.models.format import Format
    from cai_lightning.text.dialogue import Message

    make(monkeypatch, text, tmp_path / "one", "--kind", kind, "--chat", "--kv-heads", "2")
    model, tokenizer = load_causal(tmp_path / "one", dtype="float32")
    assert model.config.model_type == kind and model.config.num_key_value_heads == 2
    format = Format(tokenizer)
    dialogue = (Message("system", "Be brief."), Message("human", "hello there, <|im_end|>!"))
    assert format.templated
    assert format.text(dialogue) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhello there, <|im_end|>!<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    turn, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    ids = format.prompt_ids([dialogue])[0]
    assert (ids.count(turn), ids.count(end)) == (3, 2)  # data text never becomes a control token
    assert format.reply_ids(["hello"])[0][-1] == end == eos_ids(tokenizer, model)[0] == tokenizer.eos_token_id
    assert max(turn, end) < model.config.vocab_size == len(tokenizer)


def test_the_same_command_writes_the_same_bytes(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seed in (("one", "0"), ("two", "0"), ("three", "1")):
        make(monkeypatch, text, tmp_path / name, "--seed", seed)
    read = {
        name: {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two", "three")
    }
    assert read["one"] == read["two"]
    assert read["one"]["model.safetensors"] != read["three"]["model.safetensors"]
    assert read["one"]["tokenizer.json"] == read["three"]["tokenizer.json"]


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        (["--vocabulary", "100"], "vocabulary 100: must be at least 258"),
        (["--hidden", "30", "--heads", "4"], "--hidden 30: must be an even multiple of --heads 4"),
        (["--kv-heads", "3"], "--kv-heads 3: must divide --heads 4"),
    ],
)
def test_impossible_sizes_are_one_line(
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    cause: str,
) -> None:
    with pytest.raises(SystemExit):
        make(monkeypatch, text, tmp_path / "out", *more)
    assert cause in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_left_alone(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        make(monkeypatch, text, tmp_path)
    assert "not empty" in capsys.readouterr().err
