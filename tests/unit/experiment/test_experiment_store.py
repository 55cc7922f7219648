"""The store: made once, published whole, checked on reuse, safe between processes."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from cai_lightning.experiment.artifact import MANIFEST, ORIGIN, damage
from cai_lightning.experiment.errors import UserError
from cai_lightning.experiment.store import Store


def write(folder: Path) -> None:
    (folder / "rows.jsonl").write_text("one\n")


def test_an_artifact_is_made_once_and_then_reused(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), []

    def make(folder: Path) -> None:
        calls.append(folder)
        write(folder)

    first = store.build("respond", "k1", {"about": 1}, make)
    second = store.build("respond", "k1", {"about": 1}, make)
    assert (first.reused, second.reused, len(calls)) == (False, True, 1)
    assert store.all() == [("respond", "k1")]
    assert not store.leftovers()
    manifest = store.manifest("respond", "k1")
    assert manifest is not None
    # sha256 of "one\n", by sha256sum
    assert manifest["files"]["rows.jsonl"] == {
        "sha256": "2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806",
        "bytes": 4,
        "rows": 1,
    }


def test_a_failed_stage_leaves_no_artifact_and_its_folder_is_taken_up_again(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fails(folder: Path) -> None:
        (folder / "chunk").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.build("respond", "k", {}, fails)
    assert store.manifest("respond", "k") is None

    def goes_on(folder: Path) -> None:
        assert (folder / "chunk").read_text() == "half"
        (folder / "chunk").unlink()
        write(folder)

    assert not store.build("respond", "k", {}, goes_on).reused
    assert sorted(p.name for p in store.path("respond", "k").iterdir()) == [MANIFEST, "rows.jsonl", "timing.json"]


def test_a_folder_begun_by_other_versions_starts_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)
    partial = tmp_path / "respond" / "k.partial"
    partial.mkdir(parents=True)
    (partial / "chunk").write_text("of another torch")
    (partial / ORIGIN).write_text(json.dumps({"environment": "another"}))
    store.build(
        "respond", "k", {}, lambda folder: (write(folder), None)[1] if not (folder / "chunk").exists() else 1 / 0
    )


@pytest.mark.parametrize("harm", ["truncate", "flip", "delete", "append"])
def test_bytes_that_changed_are_noticed_and_made_anew(tmp_path: Path, harm: str) -> None:
    store = Store(tmp_path)
    file = store.build("respond", "k", {}, write).path / "rows.jsonl"
    if harm == "delete":
        file.unlink()
    else:
        file.write_text({"truncate": "on", "flip": "onf\n", "append": "one\none\n"}[harm])
    manifest = store.manifest("respond", "k")
    assert manifest is not None
    assert damage(file.parent, manifest) == "rows.jsonl"
    assert not store.build("respond", "k", {}, write).reused
    assert file.read_text() == "one\n"


def slow(root: str, log: str) -> None:
    def make(folder: Path) -> None:
        with open(log, "a") as file:
            file.write("made\n")
        time.sleep(0.5)
        write(folder)

    Store(Path(root)).build("respond", "k", {}, make)


def test_processes_that_want_one_key_make_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=slow, args=(str(tmp_path / "store"), str(log))) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert log.read_text() == "made\n"


def hang(root: str, ready: str) -> None:
    def make(folder: Path) -> None:
        write(folder)
        Path(ready).touch()
        time.sleep(60)

    Store(Path(root)).build("respond", "k", {}, make)


def test_the_lock_of_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = multiprocessing.get_context("spawn").Process(target=hang, args=(str(tmp_path / "store"), str(ready)))
    process.start()
    while not ready.exists():
        time.sleep(0.05)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    started = time.monotonic()
    assert not Store(tmp_path / "store").build("respond", "k", {}, write).reused
    assert time.monotonic() - started < 10


def test_find_wants_one_artifact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.build("respond", "abc1", {}, write)
    store.build("revise", "abd2", {}, write)
    assert store.find("abc") == ("respond", "abc1")
    assert store.find("revise/abd2") == ("revise", "abd2")
    with pytest.raises(UserError, match="2 artifacts"):
        store.find("ab")
    with pytest.raises(UserError, match="no artifact"):
        store.find("zz")


def test_a_folder_without_its_manifest_is_no_artifact_and_stands_in_nobodys_way(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.build("respond", "k", {}, write).path
    (path / MANIFEST).unlink()  # a removal that was killed
    assert store.all() == []
    assert store.leftovers() == [path]
    assert not store.build("respond", "k", {}, write).reused
    (path / MANIFEST).write_text('{"files": {')  # a torn disk
    assert not store.build("respond", "k", {}, write).reused
    assert store.build("respond", "k", {}, write).reused


@pytest.mark.parametrize("begun", ["{", "", '{"environment": "another"}'])
def test_an_origin_that_cannot_be_read_starts_anew(tmp_path: Path, begun: str) -> None:
    partial = tmp_path / "respond" / "k.partial"
    partial.mkdir(parents=True)
    (partial / ORIGIN).write_text(begun)
    (partial / "stale").touch()
    Store(tmp_path).build("respond", "k", {}, write)
    assert not (tmp_path / "respond" / "k" / "stale").exists()


def test_a_folder_begun_by_other_source_starts_anew(tmp_path: Path) -> None:
    """What the first source had begun is gone, what the second had is taken up."""
    store = Store(tmp_path)

    def fails(folder: Path, name: str) -> None:
        (folder / name).touch()
        raise ValueError("no")

    for code in ("one", "two"):
        with pytest.raises(ValueError, match="no"):
            store.build("respond", "k", {"code": code}, lambda folder, name=code: fails(folder, name))
    path = store.build("respond", "k", {"code": "two"}, write).path
    assert sorted(file.name for file in path.iterdir()) == [MANIFEST, "rows.jsonl", "timing.json", "two"]


def test_a_kill_just_before_the_rename_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "killed")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            store.build("respond", "k", {}, write)
    assert store.all() == []
    store.build("respond", "k", {}, write)
    whole = Store(tmp_path / "whole").build("respond", "k", {}, write).path
    assert (store.path("respond", "k") / MANIFEST).read_bytes() == (whole / MANIFEST).read_bytes()


def test_what_a_process_works_on_is_not_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def make(folder: Path) -> None:
        assert Store(tmp_path).busy(folder)
        assert not Store(tmp_path).remove(folder)
        write(folder)

    path = store.build("respond", "k", {}, make).path
    assert not store.busy(path)
    store.discard(path, still=lambda: False)
    assert path.exists()
    assert store.remove(path)
    assert not path.exists()
