"""Models by hub id, with the hub's cache played by a folder: nothing is downloaded."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from cai_lightning.models.causal import load_causal, new_llama
from cai_lightning.models.templates import own
from cai_lightning.stages import hub_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SIZES = {"hidden_size": 24, "layers": 2, "heads": 2, "intermediate_size": 40, "vocab_size": 3}
SHAPE: dict[str, Any] = {**SIZES, "kv_heads": 2, "head_dim": 12, "tied": True, "qkv_bias": False}


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A snapshot as the cache holds it: files that are links to blobs, a commit as the folder's name."""
    folder, blobs = tmp_path / "snapshots" / "0a1b", tmp_path / "blobs"
    new_llama(**SIZES, max_positions=64, tie=True, pad_id=0, eos_id=1, seed=0).save_pretrained(blobs)
    core = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>").save_pretrained(blobs)
    folder.mkdir(parents=True)
    for blob in blobs.iterdir():
        (folder / blob.name).symlink_to(blob)
    return folder


@pytest.fixture
def asked(snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the hub is asked for."""
    calls: list[dict[str, Any]] = []

    def download(hub_id: str, **options: Any) -> str:
        calls.append({"hub_id": hub_id, **options})
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return calls


def run(out: Path, **changes: Any) -> Path:
    out.mkdir(exist_ok=True)
    given: dict[str, Any] = {"hub_id": "one/model", "revision": COMMIT, "shape": SHAPE, "template": own, **changes}
    return hub_model.run(out, **given)


@pytest.mark.parametrize(("offline", "local"), [("1", True), ("0", False)])
def test_the_files_of_a_snapshot_and_its_commit(
    tmp_path: Path,
    snapshot: Path,
    asked: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    offline: str,
    local: bool,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    out = run(tmp_path / "out")
    run(out)  # as after a killed run
    assert [call["local_files_only"] for call in asked] == [local, local]
    assert (asked[0]["hub_id"], asked[0]["revision"]) == ("one/model", COMMIT)
    assert {file.name for file in out.iterdir()} == {*(file.name for file in snapshot.iterdir()), "hub.json"}
    assert not any(file.is_symlink() for file in out.iterdir())
    assert json.loads((out / "hub.json").read_text())["commit"] == "0a1b"
    load_causal(out, dtype="float32")


def test_what_is_written_later_does_not_reach_the_cache(tmp_path: Path, snapshot: Path, asked: list[Any]) -> None:
    before = (snapshot / "tokenizer_config.json").read_bytes()

    def change(folder: Path) -> None:
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": None}))

    run(tmp_path / "out", template=change)
    assert (snapshot / "tokenizer_config.json").read_bytes() == before
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 3}, "layers is 2, but model.shape says 3"),
        ({"tied": False}, "parameters is .*, but model.shape says"),
    ],
)
def test_other_sizes_than_the_config_says_are_refused(
    tmp_path: Path, asked: list[Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^one/model at revision {COMMIT}: {message}"):
        run(tmp_path / "out", shape={**SHAPE, **change})
    run(tmp_path / "out", shape=None)
    assert len(asked) == 2


def test_weights_that_are_no_safetensors_are_refused(tmp_path: Path, snapshot: Path, asked: list[Any]) -> None:
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=f"one/model: no safetensors weights at revision {COMMIT}"):
        run(tmp_path / "out")
    assert asked


def refused(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)


def test_offline_without_a_cache_says_at_once_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(monkeypatch, LocalEntryNotFoundError("Cannot find\nmany lines"))
    with pytest.raises(ValueError, match="not in the Hugging Face cache") as error:
        run(tmp_path / "out")
    said = str(error.value)
    assert "runtime.online=true" in said
    assert "stage/base@stages.base=imported model.path=FOLDER" in said
    assert "\n" not in said


def test_what_the_hub_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    answer = httpx.Response(404, request=httpx.Request("GET", "https://hub"))
    refused(monkeypatch, RepositoryNotFoundError("404 Client Error.\n\nRepository Not Found", response=answer))
    with pytest.raises(ValueError, match=rf"^one/model at revision {COMMIT}: 404 Client Error\.") as error:
        run(tmp_path / "out")
    assert "\n" not in str(error.value)


def test_the_real_client_finds_nothing_offline_and_does_not_try_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="not in the Hugging Face cache"):
        run(tmp_path / "out", hub_id="no-such-owner/no-such-model")


def test_a_branch_is_no_revision(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="'main' is no commit; branches move"):
        run(tmp_path / "out", revision="main")
    assert not asked
