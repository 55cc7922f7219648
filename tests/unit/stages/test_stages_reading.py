"""Rows of readers, with counts of what was left out; model folders from outside."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cai_lightning.data.reading import Read
from cai_lightning.experiment.digest import Digests
from cai_lightning.models.templates import own
from cai_lightning.stages.import_model import run as import_model
from cai_lightning.stages.reading import write_all
from cai_lightning.text.records import Prompt, read_rows


def test_readers_follow_each_other_and_their_drops_add_up(tmp_path: Path, make_prompt: Callable[[str], Prompt]) -> None:
    one, two = Read([make_prompt("b")], {"short": 2, "empty": 1}), Read([make_prompt("a")], {"short": 3})
    write_all(tmp_path, [one, [make_prompt("c")], two], "prompts")
    assert [row.id for row in read_rows(tmp_path, Prompt)] == ["b", "c", "a"]
    assert json.loads((tmp_path / "counts.json").read_text()) == {
        "rows": 3,
        "sources": {"test": 3},
        "dropped": {"empty": 1, "short": 5},
        "skipped": [],
    }


def test_readers_without_a_row_are_an_error_that_says_what_was_dropped(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"prompts: the readers found no row; .*'empty': 4"):
        write_all(tmp_path, [Read([], {"empty": 4}), []], "prompts")
    assert not list(tmp_path.iterdir())


def test_hidden_files_neither_name_a_model_nor_come_along(tmp_path: Path) -> None:
    weights = Path(__file__).parents[3] / "cai_lightning" / "microworld" / "weights" / "small"
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    for file in weights.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    before = Digests(tmp_path / "none").of(source, "path")
    for name in (".cache/huggingface/clock", ".gitattributes"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("now")
    assert Digests(tmp_path / "none").of(source, "path") == before
    import_model(out, path=source, base=None, base_folder=None, dtype="float32", template=own)
    assert sorted(path.name for path in out.rglob("*")) == sorted(path.name for path in weights.iterdir())
