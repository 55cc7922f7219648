"""Stages in processes of their own: the same files, one line of error, nothing left running."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.experiment.errors import UserError, one_line
from cai_lightning.experiment.launch import WORKER, make, processes

HERE = Path(__file__).parent
SEVERAL = {"_target_": "worker_stages.devices", "devices": 2}


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAI_ISOLATE", "1")
    monkeypatch.syspath_prepend(HERE)


def call(out: Path, name: str, **values: Any) -> dict[str, Any]:
    out.mkdir()
    return make(out, f"worker_stages.{name}", values)


def test_a_worker_writes_what_this_process_would_and_tells_what_it_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    values = {"text": "x\n", "source": tmp_path / "name"}
    used = call(tmp_path / "one", "write", **values)
    assert set(used) == {"cpu_seconds", "peak_rss_mb"}
    assert 5 < used["peak_rss_mb"] < 200  # not this process's, which holds torch in a whole test session
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "printed by a stage\n")
    monkeypatch.setenv("CAI_ISOLATE", "0")
    assert call(tmp_path / "two", "write", **values) == {}
    assert (tmp_path / "one" / "file").read_bytes() == (tmp_path / "two" / "file").read_bytes()


def test_errors_are_the_line_that_they_would_be_here(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        call(tmp_path / "one", "fail", text="row 3")
    assert one_line(error.value) == "row 3: this is wrong"
    assert "worker_stages.py" in str(error.value.__cause__)
    with pytest.raises(UserError, match=r"^KeyError: 'k'$"):
        call(tmp_path / "two", "unforeseen")


def test_a_killed_worker_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the stage's process was killed by signal 9"):
        call(tmp_path / "out", "die")


def test_a_stage_may_end_its_process(tmp_path: Path) -> None:
    assert "peak_rss_mb" in call(tmp_path / "out", "leave")


def test_the_devices_of_a_fit_are_processes() -> None:
    assert [processes(values) for values in ({}, {"fit": {}}, {"fit": None}, {"fit": SEVERAL})] == [1, 1, 1, 2]


def test_only_the_first_of_several_writes_into_the_folder_and_shows_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAI_ISOLATE", "0")
    monkeypatch.setenv("CAI_PROGRESS", "lines")
    call(tmp_path / "out", "both", fit=SEVERAL)
    assert {file.name: file.read_text() for file in (tmp_path / "out").iterdir()} == {"rank0": "lines"}


def test_one_that_fails_ends_all(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match="rank 1 is wrong"):
        call(tmp_path / "out", "ranks", fit=SEVERAL)
    assert time.monotonic() - started < 20
    assert (tmp_path / "out" / "0").read_text() == "2127.0.0.1"


def start(out: Path) -> subprocess.Popen[bytes]:
    """A worker that sleeps, begun by hand."""
    out.mkdir()
    worker = subprocess.Popen(
        [sys.executable, "-m", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert worker.stdin is not None
    pickle.dump((out, "worker_stages.sleep", {}), worker.stdin)
    worker.stdin.flush()
    while not (out / "pid").exists():
        time.sleep(0.05)
    return worker


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_worker_quietly(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], number: signal.Signals, code: int
) -> None:
    with start(tmp_path / "out") as worker:
        worker.send_signal(number)
        assert worker.wait(10) == code
    assert capfd.readouterr().err == ""


def test_a_worker_does_not_outlive_who_started_it(tmp_path: Path) -> None:
    with start(tmp_path / "out") as worker:
        assert worker.stdin is not None
        worker.stdin.close()
        assert worker.wait(10) == 1
