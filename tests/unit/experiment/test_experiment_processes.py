"""Jobs of a multirun in processes of their own: told live, several processes each, all stopped by one signal."""

import signal
import subprocess
import time
from pathlib import Path

from toy_runs import cai, command, environment, noted

APART = ("-m", "hydra/launcher=processes")


def test_jobs_run_at_once_as_several_processes_and_a_failing_one_stops_no_other(tmp_path: Path) -> None:
    more = ("stages.toy.x=1.0,2.0", "stages.toy.fit.devices=2", "hydra.launcher.devices=[5,6]")
    done = cai(tmp_path, *APART, *more, TOY_FAIL="2.0")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert sum(": started; it writes to out/sweeps/" in line for line in lines) == 2
    assert any(line.startswith("job 0 (x=1.0): finished after ") for line in lines)
    (told,) = (line for line in lines if line.startswith("cai: job 1 (x=2.0): "))
    assert "stages.toy: x: 2.0 is not wanted today (failed after " in told
    assert "Traceback" not in done.stderr
    at_work = [line for line in noted(tmp_path) if line["what"].startswith("x=")]
    assert sorted(line["RANK"] for line in at_work if line["what"] == "x=1.0") == ["0", "1"]
    assert {line["OMP_NUM_THREADS"] for line in at_work} == {"1"}
    assert {line["what"]: line["CUDA_VISIBLE_DEVICES"] for line in at_work} == {"x=1.0": "5", "x=2.0": "6"}
    assert [line["what"] for line in noted(tmp_path)].count("shared") == 1
    (sweep,) = (tmp_path / "out" / "sweeps").iterdir()
    assert "toy ..." in (sweep / "0" / "output.log").read_text()
    before = len(noted(tmp_path))
    done = cai(tmp_path, *APART, *more)
    assert done.returncode == 0, done.stderr
    assert [line["job"] for line in noted(tmp_path)[before:] if line["what"] == "report"] == ["1", sweep.name]


def test_a_signal_stops_all_jobs_and_the_command_says_how_to_go_on(tmp_path: Path) -> None:
    asked = command(tmp_path, *APART, "stages.toy.x=1.0,2.0")
    process = subprocess.Popen(
        asked, cwd=tmp_path, env=environment(tmp_path, TOY_SLEEP="1.0 2.0"), stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "log"
    while (not log.exists() or log.read_text().count('"x=') < 2) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("cai: stopped; the same command goes on where it was: cai run ")
    assert "Traceback" not in said
    (sweep,) = (tmp_path / "out" / "sweeps").iterdir()
    for job in ("0", "1"):
        assert "cai: stopped" in (sweep / job / "output.log").read_text()


def test_a_job_does_not_outlive_the_launcher(tmp_path: Path) -> None:
    asked = command(tmp_path, *APART, "stages.toy.x=1.0", "hydra.launcher.n_jobs=1")
    process = subprocess.Popen(
        asked, cwd=tmp_path, env=environment(tmp_path, TOY_SLEEP="1.0"), stderr=subprocess.DEVNULL
    )
    log = tmp_path / "log"
    while (not log.exists() or '"x=' not in log.read_text()) and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.wait()
    pid = int(noted(tmp_path)[-1]["pid"])
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
