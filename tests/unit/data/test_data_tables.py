"""Every kind of file gives the same rows with their places; the hub is asked for one commit or explained."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai_lightning.data.reading import LeftOut
from cai_lightning.data.reshape import alternating, between, decoded, equal
from cai_lightning.data.tables import dataset_table, file_table, hub_table

ROWS = [
    {"prompt": "plain", "rating": "1"},
    {"prompt": 'a comma, a "quote"\n\nand a blank line', "rating": "2.5"},
    {"prompt": "naïve 日本 \u2028 {brace} \ue000", "rating": "-3"},
]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def csv_bytes(rows: Sequence[dict[str, Any]], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet_bytes(rows: Sequence[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), sink)
    return sink.getvalue()


FILES = {
    "a.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode(),
    "list.json": json.dumps(ROWS, indent=1).encode(),
    "list_in.jsonl": (" \n" + json.dumps(ROWS)).encode(),  # the red-team attempts are published so
    "a.csv": csv_bytes(ROWS),
    "excel.csv": b"\xef\xbb\xbf" + csv_bytes(ROWS),
    "a.tsv": csv_bytes(ROWS, "\t"),
}


def write(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def rows(path: Path, pattern: str | None = None) -> list[Any]:
    return [row for _, row in file_table(path=path, pattern=pattern)]


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_the_same_rows_plain_or_packed(tmp_path: Path, name: str) -> None:
    assert rows(write(tmp_path, name, FILES[name])) == ROWS
    assert rows(write(tmp_path, f"{name}.gz", gzip.compress(FILES[name]))) == ROWS


def test_parquet_gives_the_same_rows_and_nested_ones(tmp_path: Path) -> None:
    assert rows(write(tmp_path, "train-00000.parquet", parquet_bytes(ROWS))) == ROWS
    nested = [{"messages": [{"role": "user", "content": "q"}], "margin": 0.5}]
    assert rows(write(tmp_path, "b.parquet", parquet_bytes(nested))) == nested


def test_places_are_lines_of_json_lines_and_row_numbers_elsewhere(tmp_path: Path) -> None:
    lines = write(tmp_path, "a.jsonl", FILES["a.jsonl"])
    assert [place for place, _ in file_table(path=lines, pattern=None)] == [f"{lines}:{n}" for n in (1, 2, 3)]
    cells = write(tmp_path, "a.csv", FILES["a.csv"])
    assert [place for place, _ in file_table(path=cells, pattern=None)] == [f"{cells}:row {n}" for n in (1, 2, 3)]


def test_a_folder_wants_a_pattern_and_is_read_by_name(tmp_path: Path) -> None:
    for subset in ("helpful-online", "harmless-base"):
        (tmp_path / subset).mkdir()
        for split in ("train", "test"):
            content = json.dumps({"chosen": f"{subset}/{split}"}).encode() + b"\n"
            write(tmp_path / subset, f"{split}.jsonl.gz", gzip.compress(content))
    found = rows(tmp_path, "*/train.jsonl.gz")
    assert [row["chosen"] for row in found] == ["harmless-base/train", "helpful-online/train"]
    with pytest.raises(ValueError, match="is a folder; name a file, or give the pattern"):
        rows(tmp_path)
    with pytest.raises(ValueError, match=r"no file matches 'x\*'"):
        rows(tmp_path, "x*")


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("a.csv", b"a,b\n1,2,3\n", r"has 3 cells under 2 columns; quote cells that hold ','"),
        ("a.json", b'[{"a": 1}, 7]', "must be a JSON object, is 7"),
        ("a.jsonl", b"nonsense\n", "not JSON"),
    ],
)
def test_a_bad_row_stands_in_the_table_and_the_reading_goes_on(
    tmp_path: Path, name: str, content: bytes, cause: str
) -> None:
    found = rows(write(tmp_path, name, content))
    (fault,) = [row for row in found if isinstance(row, Exception)]
    with pytest.raises(ValueError, match=cause):
        raise fault


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("a.csv", b"a,a\n1,2\n", r"a\.csv:row 1: cannot be read: a column is named twice"),
        ("a.csv", b'a\n"x"y\n', r"a\.csv:row 1: cannot be read: .* expected"),
        ("a.csv", b"a\nfine\n\xff\n", r"a\.csv:row \d: cannot be read: .*codec can't decode"),
        ("a.parquet", parquet_bytes(ROWS)[:-20], r"a\.parquet:row 1: cannot be read"),
        ("a.json", b'[{"a": 1},\n {"a"]', r"a\.json:row 1: cannot be read: not JSON: .* at line 2 column 6"),
        ("a.json.gz", gzip.compress(mtime=0, data=b'[{"a": 1}]')[:-3], r"a\.json\.gz:.*cannot be read"),
        ("train.parquet", b"version https://git-lfs.github.com/spec/v1\noid x\n", "is a Git LFS pointer"),
    ],
)
def test_a_spoilt_file_is_one_line_with_its_name(tmp_path: Path, name: str, content: bytes, cause: str) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(ValueError, match=cause) as caught:
        rows(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_long_cell_is_read(tmp_path: Path) -> None:
    assert rows(write(tmp_path, "a.csv", csv_bytes([{"prompt": "x" * 200_000}]))) == [{"prompt": "x" * 200_000}]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00")), min_size=1, max_size=4))
def test_any_text_survives_csv(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    content = [{"number": str(n), "prompt": text} for n, text in enumerate(texts)]
    assert rows(write(tmp_path_factory.mktemp("csv"), "a.csv", csv_bytes(content))) == content


def test_rows_are_chosen_by_value_or_range_and_the_others_counted() -> None:
    table = [("f:1", {"a": 1}), ("f:2", {"a": "2"}), ("f:3", {}), ("f:4", ValueError("bad"))]
    found = [row for _, row in equal(table=table, column="a", value=1)]
    assert found[0] == {"a": 1}
    assert [str(row) for row in found[1:]] == ["not a", "no key 'a'; found none", "bad"]
    found = [row for _, row in between(table=table, column="a", low=1.5, high=None)]
    assert isinstance(found[0], LeftOut) and found[1] == {"a": "2"}
    assert next(row for _, row in between(table=table, column="a", low=None, high=1)) == {"a": 1}
    (fault,) = [row for _, row in between(table=[("f:1", {"a": "x"})], column="a", low=None, high=1)]
    assert str(fault) == "'a' must be a number, is 'x'"


def test_json_cells_are_unpacked() -> None:
    table = [("f:1", {"m": '[{"role": "user", "content": "q"}]', "n": "1"}), ("f:2", {"m": "[", "n": "1"})]
    first, second = (row for _, row in decoded(table=table, columns=["m"]))
    assert first == {"m": [{"role": "user", "content": "q"}], "n": "1"}
    assert "not JSON" in str(second)


def test_alternating_rows_become_pairs() -> None:
    table = [(f"f:{n}", {"text": f"t{n}"}) for n in range(1, 6)]
    (one, two, three) = alternating(table=table, column="text")
    assert one == ("f:1", {"chosen": "t1", "rejected": "t2"})
    assert two == ("f:3", {"chosen": "t3", "rejected": "t4"})
    assert three[0] == "f:5" and "has no partner" in str(three[1])


def hub(revision: str = COMMIT, hub_id: str = "someone/some-set") -> list[tuple[str, Any]]:
    return list(hub_table(hub_id=hub_id, config=None, folder=None, split="train", revision=revision))


def test_a_hub_table_asks_for_id_split_and_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(*args: Any, **named: Any) -> datasets.Dataset:
        asked.append((args, named))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr("datasets.load_dataset", load)
    found = hub()
    assert [row for _, row in found] == ROWS
    assert found[2][0] == "someone/some-set@01234567/train:row 3"
    assert asked == [(("someone/some-set", None), {"data_dir": None, "split": "train", "revision": COMMIT})]


def test_a_branch_is_no_revision() -> None:
    with pytest.raises(ValueError, match="revision 'main' is no commit; branches move"):
        hub("main")


def test_offline_the_hub_is_explained_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"some-set@01234567: is not in the local cache and the hub is off") as caught:
        hub()
    assert "runtime.online=true" in str(caught.value) and "\n" not in str(caught.value)


def test_online_the_cause_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("Dataset 'x' doesn't exist\nat all")

    monkeypatch.setattr("datasets.load_dataset", load)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with pytest.raises(ValueError, match=r"@01234567: cannot be loaded: Dataset 'x' doesn't exist$"):
        hub()


def test_a_cached_copy_of_another_commit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "a.jsonl", FILES["a.jsonl"])
    local = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: local)
    with pytest.raises(ValueError, match="the cache holds another revision"):
        hub()
    assert [row for _, row in dataset_table(local, name="local")] == ROWS


def test_a_folder_of_the_same_name_does_not_hide_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "someone" / "some-set").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is a path here"):
        hub()
