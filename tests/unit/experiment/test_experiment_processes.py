"""Jobs of a multirun in processes of their own: told live, several processes each, all stopped by one signal."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_runs import cai, noted

from cai_lightning.experiment import side_by_side
from cai_lightning.experiment.errors import failed
from cai_lightning.experiment.side_by_side import Job, run_together

DONE = "open(os.path.join(sys.argv[1], 'done'), 'w').close()"
SLEEP = "time.sleep(60)"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "POLL_SECONDS", 0.02)
    failed.clear()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def job(folder: Path, name: str, *lines: str) -> Job:
    code = "\n".join(["import os, signal, sys, time", *lines])
    return Job(name, folder / name, [sys.executable, "-c", code, str(folder / name)], "done")


def said(caplog: pytest.LogCaptureFixture, start: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith(start)]


def test_each_end_is_told_in_one_line_and_stops_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="cai")
    jobs = [
        job(tmp_path, "good", DONE),
        job(tmp_path, "wrong", "print('cai: stages.x: is wrong', file=sys.stderr)", "print('bye')", "sys.exit(1)"),
        job(tmp_path, "killed", "os.kill(os.getpid(), signal.SIGKILL)"),
        job(tmp_path, "empty", "pass"),
        job(tmp_path, "last", DONE),
    ]
    run_together(jobs, n_jobs=2, devices=[])
    assert sorted(failed) == ["empty", "killed", "wrong"]
    assert len(said(caplog, "good: finished after ")) == len(said(caplog, "last: finished after ")) == 1
    assert said(caplog, "cai: wrong: ")[0].startswith("cai: wrong: stages.x: is wrong (failed after ")
    assert "was killed by signal 9; see " in said(caplog, "cai: killed: ")[0]
    assert "ended with code 0; see " in said(caplog, "cai: empty: ")[0]
    assert (tmp_path / "wrong" / "output.log").read_text() == "cai: stages.x: is wrong\nbye\n"


def test_as_many_as_asked_for_run_at_once_on_devices_of_their_own(tmp_path: Path) -> None:
    seen = "print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ.get('OMP_NUM_THREADS'), flush=True)"
    others = "[n for n in 'ab' if not os.path.exists(os.path.join(sys.argv[1], '..', n, 'output.log'))]"
    meet = f"while {others}: time.sleep(0.01)"
    run_together([job(tmp_path, name, seen, meet, DONE) for name in "ab"], n_jobs=2, devices=["0,1", "2,3"])
    assert (tmp_path / "a" / "output.log").read_text() == "0,1 1\n"
    assert (tmp_path / "b" / "output.log").read_text() == "2,3 1\n"
    run_together([job(tmp_path, "alone", seen, DONE)], n_jobs=1, devices=["5"])
    assert (tmp_path / "alone" / "output.log").read_text() == "5 None\n"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A process that SIGINT interrupts, which a shell's background jobs ignore; what was there before comes back."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_stop_asks_all_that_run_to_end_and_starts_no_more(tmp_path: Path) -> None:
    polite = "signal.signal(signal.SIGTERM, lambda *_: (print('stopped', flush=True), sys.exit(143)))"
    ready, ended = "print('ready', flush=True)", threading.Event()

    def interrupt() -> None:
        logs = [tmp_path / name / "output.log" for name in "ab"]
        while not all(log.exists() and log.read_text() == "ready\n" for log in logs):
            if ended.wait(0.02):
                return
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_together([job(tmp_path, name, polite, ready, SLEEP) for name in "abc"], n_jobs=2, devices=[])
    finally:
        ended.set()
        thread.join()
    assert [(tmp_path / name / "output.log").read_text() for name in "ab"] == ["ready\nstopped\n"] * 2
    assert not (tmp_path / "c").exists()
    assert failed == []


def test_a_job_does_not_outlive_who_started_it(tmp_path: Path) -> None:
    inner = (
        "import threading; from cai_lightning.experiment.worker import UNTIL, end_with_parent",
        "assert os.environ[UNTIL]; threading.Thread(target=end_with_parent, daemon=True).start()",
        "print(os.getpid(), flush=True)",
        SLEEP,
    )
    outer = (
        "from pathlib import Path; from cai_lightning.experiment.side_by_side import Job, run_together; "
        f"run_together([Job('j', Path({str(tmp_path / 'j')!r}), {job(tmp_path, 'j', *inner).command!r}, 'done')], "
        "n_jobs=1, devices=[])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen([sys.executable, "-c", outer], env=environment, stderr=subprocess.DEVNULL)
    log = tmp_path / "j" / "output.log"
    while not (log.exists() and log.read_text().endswith("\n")) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    running = Path(f"/proc/{log.read_text().strip()}")
    deadline = time.monotonic() + 60
    while running.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not running.exists()


@pytest.mark.slow
def test_jobs_that_are_several_processes_share_what_they_can_and_only_the_failed_run_again(tmp_path: Path) -> None:
    asked = ("-m", "hydra/launcher=processes", "stages.toy.x=1.0,2.0", "stages.toy.fit.devices=2")
    done = cai(tmp_path, *asked, TOY_FAIL="2.0")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert any(line.startswith("job 0 (x=1.0): finished after ") for line in lines)
    (told,) = (line for line in lines if line.startswith("cai: job 1 (x=2.0): "))
    assert "stages.toy: x: 2.0 is not wanted today (failed after " in told
    assert "Traceback" not in done.stderr
    ranks = [line["RANK"] for line in noted(tmp_path) if line["what"] == "x=1.0"]
    assert sorted(ranks) == ["0", "1"]
    assert [line["what"] for line in noted(tmp_path)].count("shared") == 1
    before = len(noted(tmp_path))
    done = cai(tmp_path, *asked)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "out" / "sweeps").iterdir()
    assert [line["job"] for line in noted(tmp_path)[before:] if line["what"] == "report"] == ["1", sweep.name]
