"""`cai sync`: what it hands to `wandb sync`, and that it may be repeated."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from told_run import told

from cai_lightning.commands import sync
from cai_lightning.report import wandb_runs
from cai_lightning.report.tracker import alone

RUN = subprocess.run


@pytest.fixture(autouse=True)
def w_and_b_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_runs, "ask", lambda *_: None)


class Uploads:
    """In place of `wandb sync`: marks what it could send, as it does."""

    def __init__(self, *, refused: str = "nothing") -> None:
        self.asked: list[str] = []
        self._refused = refused

    def __call__(self, command: list[str], **options: Any) -> Any:
        if command[0] != sys.executable:  # W&B itself asks the machine what it is
            return RUN(command, **options)
        assert command[:5] == [sys.executable, "-m", "wandb", "sync", "--include-online"]
        for folder in map(Path, command[5:]):
            self.asked.append(folder.name)
            (log,) = folder.glob("*.wandb")
            if self._refused not in log.name:
                log.with_name(f"{log.name}.synced").touch()
        return None


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> Uploads:
    fake = Uploads()
    monkeypatch.setattr(subprocess, "run", fake)
    return fake


def cai_sync(outputs: Path, *arguments: str) -> int:
    given = SimpleNamespace(outputs=outputs, value=lambda _: 3.0)  # seconds of patience
    return sync.main(list(arguments), given)  # type: ignore[arg-type]


def test_what_was_not_logged_is_logged_and_all_is_sent_once(
    tmp_path: Path, uploads: Uploads, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = told(tmp_path, mode="online")  # told to be online, and killed before anything was logged
    assert cai_sync(tmp_path, "--dry-run") == 0
    assert f"{folder}: 3 W&B runs to log from its files" in capsys.readouterr().out
    assert uploads.asked == []
    assert cai_sync(tmp_path) == 0
    assert len(uploads.asked) == 3
    said = capsys.readouterr().out
    assert f"{folder}: 3 W&B runs logged from its files" in said
    assert "3 of 3 W&B runs sent" in said
    assert cai_sync(tmp_path, str(folder)) == 0
    assert len(uploads.asked) == 3
    assert "1 runs with W&B logs: 0 W&B runs to send" in capsys.readouterr().out


def test_what_could_not_be_sent_is_sent_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told(tmp_path)
    first = Uploads(refused="run-")
    monkeypatch.setattr(subprocess, "run", first)
    assert cai_sync(tmp_path) == 1
    assert "0 of 3 W&B runs sent" in (said := capsys.readouterr()).out
    assert "the same command tries again" in said.err
    second = Uploads()
    monkeypatch.setattr(subprocess, "run", second)
    assert cai_sync(tmp_path) == 0
    assert second.asked == first.asked


def test_a_run_that_is_still_logged_is_left_alone(
    tmp_path: Path, uploads: Uploads, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = told(tmp_path)
    with alone(folder):
        assert cai_sync(tmp_path) == 0
    assert uploads.asked == []
    assert f"{folder}: still being logged, left alone" in capsys.readouterr().out


def test_where_w_and_b_does_not_answer_nothing_is_tried(
    tmp_path: Path, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(tmp_path)
    monkeypatch.setattr(wandb_runs, "ask", Mock(side_effect=TimeoutError("timed out")))
    with pytest.raises(ValueError, match=r"W&B does not answer \(timed out\); 3 W&B runs wait"):
        cai_sync(tmp_path)
    assert uploads.asked == []


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        cai_sync(tmp_path, str(tmp_path / "nowhere"))
