"""Chunks: the same bytes however often the work was interrupted, and no chunk made twice."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from cai_lightning.text import chunks
from cai_lightning.text.chunks import in_chunks
from cai_lightning.text.records import Reference, read_rows


class Killed(BaseException):
    pass


def rows_of(part: Sequence[int]) -> list[Reference]:
    return [Reference(id=f"{number}/{len(part)}", logp_a=0.0, logp_b=float(number)) for number in part]


def make(out: Path, *, dies_at: int | None = None, items: int = 7) -> list[list[int]]:
    """The chunks that were worked on; work on the chunk that starts with `dies_at` is never finished."""
    worked = []

    def work(part: Sequence[int]) -> list[Reference]:
        worked.append(list(part))
        if part[0] == dies_at:
            raise Killed
        return rows_of(part)

    out.mkdir(exist_ok=True)
    if dies_at is None:
        in_chunks(out, range(items), size=3, work=work, advance=lambda _: None)
    else:
        with pytest.raises(Killed):
            in_chunks(out, range(items), size=3, work=work, advance=lambda _: None)
    return worked


def test_rows_come_in_order_and_nothing_else_is_left(tmp_path: Path) -> None:
    assert make(tmp_path) == [[0, 1, 2], [3, 4, 5], [6]]
    assert [row.id for row in read_rows(tmp_path, Reference)] == ["0/3", "1/3", "2/3", "3/3", "4/3", "5/3", "6/1"]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize("dies_at", [0, 3, 6])
def test_interrupted_work_goes_on_at_its_chunk_with_the_same_bytes(tmp_path: Path, dies_at: int) -> None:
    make(tmp_path / "whole")
    make(tmp_path / "torn", dies_at=dies_at)
    assert [part[0] for part in make(tmp_path / "torn")] == [start for start in (0, 3, 6) if start >= dies_at]
    assert (tmp_path / "torn" / "rows.jsonl").read_bytes() == (tmp_path / "whole" / "rows.jsonl").read_bytes()


def test_a_half_written_chunk_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "chunks").mkdir()
    (tmp_path / "chunks" / "000000.new").write_text('{"id": "0/3", "lo')
    make(tmp_path)
    assert len(read_rows(tmp_path, Reference)) == 7


def test_rows_are_whole_where_they_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(chunks.shutil, "rmtree", killed)  # after the rows were joined
        with pytest.raises(Killed):
            in_chunks(tmp_path, range(7), size=3, work=rows_of, advance=lambda _: None)
    assert make(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]

    with monkeypatch.context() as patch:
        (tmp_path / "rows.jsonl").unlink()
        patch.setattr(chunks, "join", killed)  # before
        with pytest.raises(Killed):
            in_chunks(tmp_path, range(7), size=3, work=rows_of, advance=lambda _: None)
    assert not (tmp_path / "rows.jsonl").exists()
    assert make(tmp_path) == []


def test_progress_counts_every_item_once_also_those_made_before(tmp_path: Path) -> None:
    make(tmp_path, dies_at=6)
    seen: list[int] = []
    in_chunks(tmp_path, range(7), size=3, work=rows_of, advance=seen.append)
    in_chunks(tmp_path, range(7), size=3, work=rows_of, advance=seen.append)
    assert seen == [3, 3, 1, 7]


def test_nothing_to_do_gives_an_empty_file(tmp_path: Path) -> None:
    make(tmp_path, items=0)
    assert (tmp_path / "rows.jsonl").read_bytes() == b""


def test_a_size_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="chunk: 0 given"):
        in_chunks(tmp_path, [1], size=0, work=rows_of, advance=lambda _: None)
