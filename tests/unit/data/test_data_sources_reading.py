from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from cai_lightning.data.reading import json_lines, text_field


def read(path: Path) -> list[object]:
    return [row for _, row in json_lines(path)]


def test_gzip_and_plain_are_told_apart_by_content(tmp_path: Path) -> None:
    body = b'{"a": "x\xc3\xa9\xe2\x80\xa8y"}\r\n{"a": "z"}'
    for name, content in {
        "plain.jsonl": body,
        "packed.jsonl.gz": gzip.compress(body),
        "unpacked.jsonl.gz": body,
        "renamed.jsonl": gzip.compress(body),
    }.items():
        (tmp_path / name).write_bytes(content)
        # U+2028 stays inside its row
        assert read(tmp_path / name) == [{"a": "xé\u2028y"}, {"a": "z"}]


def test_places_count_lines_from_one(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("{}\n{}\n")
    assert [place for place, _ in json_lines(tmp_path / "x.jsonl")] == [
        f"{tmp_path}/x.jsonl:1",
        f"{tmp_path}/x.jsonl:2",
    ]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (b"", "not JSON: Expecting value"),
        (b'{"a": 1', "not JSON: Expecting ',' delimiter at column 8"),
        (b'{"a": 1}{"a": 2}', "not JSON: Extra data"),
        (b'{"a": "\xff"}', "can't decode byte 0xff"),
        (b"[1]", "must be a JSON object"),
        (b'{"a": 1, "a": 2}', "key 'a' is given twice"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": ' + b"[" * 100_000 + b"}", "recursion"),
        (b'{"a": ' + b"9" * 6000 + b"}", "limit"),
        (b'{"a": "\x00"}', "control character"),
    ],
)
def test_a_bad_line_is_one_line_with_file_and_number(tmp_path: Path, line: bytes, cause: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"a": "fine"}\n' + line + b"\n{}\n")
    with pytest.raises(ValueError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_byte_order_mark_is_named(tmp_path: Path) -> None:
    (tmp_path / "bom.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    with pytest.raises(ValueError, match=r"bom\.jsonl:1: .*BOM"):
        read(tmp_path / "bom.jsonl")


def test_an_lfs_pointer_is_explained(tmp_path: Path) -> None:
    pointer = tmp_path / "train.jsonl.gz"
    pointer.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 13157000\n")
    with pytest.raises(ValueError, match="is a Git LFS pointer, not the data; fetch the content with `git lfs pull`"):
        read(pointer)


def test_a_torn_gzip_file_and_a_missing_file_are_one_line(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"a": str(i)}) + "\n" for i in range(1000)).encode()
    (tmp_path / "torn.gz").write_bytes(gzip.compress(rows)[:-100])
    with pytest.raises(ValueError, match=r"torn\.gz:\d+: cannot be read: .*fetch the file again") as caught:
        read(tmp_path / "torn.gz")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"absent\.jsonl: no such file"):
        read(tmp_path / "absent.jsonl")


def test_text_field_wants_text(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="f:1: no key 'b'; found a"):
        text_field({"a": "x"}, "b", "f:1")
    with pytest.raises(ValueError, match=r"f:1: 'a' must be text, is \['x'\]"):
        text_field({"a": ["x"]}, "a", "f:1")
    (tmp_path / "half.jsonl").write_text('{"a": "\\ud83d"}\n')
    with pytest.raises(ValueError, match="half a surrogate pair"):
        text_field(read(tmp_path / "half.jsonl")[0], "a", "f:1")  # type: ignore[arg-type]
