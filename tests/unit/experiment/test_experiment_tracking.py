"""The process that logs a run to W&B: whatever it does, the run is held up for so many seconds at most."""

import json
import os
import socket
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from cai_lightning.experiment import tracking
from cai_lightning.experiment.compose import compose_config
from cai_lightning.experiment.pipeline import make_plan
from cai_lightning.experiment.tracking import EVENTS, PLACE, SAID, group_of, logging_process

PATIENCE = 0.5
ENOUGH = 60.0  # seconds, for a process to start where many others run
LOGGED = ["experiment=smoke", f"runtime.wandb.patience={ENOUGH}"]
WAITS = "import time, sys; print(sys.argv[1:], file=sys.stderr, flush=True); time.sleep(600)"
DONE = "import sys; sys.stdin.read(); print('{\"done\": true}', flush=True); import time; time.sleep(600)"
OUTAGE = f"print('{json.dumps({'warning': 'no such host', 'outage': True})}', flush=True)\n{DONE}"
BREAKS = "raise SystemExit('torn')"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run whose W&B process is the module `stand_in`."""
    monkeypatch.setattr(tracking, "TRACKER", "stand_in")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(os, "environ", os.environ.copy())
    (tmp_path / "run" / PLACE).mkdir(parents=True)
    return tmp_path / "run"


def held_up(run: Path, code: str, mode: str, patience: float = ENOUGH) -> float:
    """Seconds beside the run's own."""
    (run.parent / "stand_in.py").write_text(code)
    started = time.perf_counter()
    with logging_process(run, mode=mode, patience=patience):
        pass
    return time.perf_counter() - started


def test_a_process_that_waits_for_the_network_is_left(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert PATIENCE <= held_up(run, WAITS, "online", PATIENCE) < PATIENCE + 5
    assert f"not done after 0.5 s and left; `cai sync {run}` sends the rest" in caplog.text
    assert "CAI_WANDB_OUTAGE" in os.environ


def test_one_that_is_done_is_not_waited_for(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert held_up(run, DONE, "online") < ENOUGH
    assert caplog.text == ""
    assert "CAI_WANDB_OUTAGE" not in os.environ


def test_an_outage_is_one_line_and_the_next_jobs_do_not_ask_again(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    held_up(run, OUTAGE, "online")
    assert [record.getMessage() for record in caplog.records] == ["W&B: no such host"]
    config = compose_config([*LOGGED, f"runtime.outputs={run.parent}", "runtime.wandb.mode=online"])
    (run.parent / "stand_in.py").write_text(DONE)
    with tracking.tracking(config, run, make_plan(config), kind="run"):
        pass
    start, end = map(json.loads, (run / PLACE / EVENTS).read_text().splitlines())
    assert (start["mode"], start["group"], end) == ("offline", "run", {"event": "end", "failed": False})


def test_one_that_breaks_off_does_not_end_the_run(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    held_up(run, BREAKS, "offline")
    assert "its process broke off" in caplog.text
    assert "torn" in (run / PLACE / SAID).read_text()


def test_what_an_agent_says_is_kept_from_the_runs_of_stages(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "WANDB_RUN_ID", "agents")
    code = f"import os, sys; print(os.environ.get('WANDB_RUN_ID'), file=sys.stderr)\n{DONE}"
    (run.parent / "stand_in.py").write_text(code)
    config = compose_config([*LOGGED, f"runtime.outputs={run.parent}", "runtime.wandb.mode=offline"])
    with tracking.tracking(config, run, make_plan(config), kind="run"):
        pass
    assert (run / PLACE / SAID).read_text() == "None\n"
    assert json.loads((run / PLACE / EVENTS).read_text().splitlines()[0])["agent"] == {"WANDB_RUN_ID": "agents"}


def test_disabled_writes_nothing(tmp_path: Path) -> None:
    config = compose_config(["experiment=smoke", f"runtime.outputs={tmp_path}", "runtime.wandb.mode=disabled"])
    with tracking.tracking(config, tmp_path, make_plan(config), kind="run") as tell:
        tell("begun", slot="sft")
    assert not (tmp_path / PLACE).exists()


def test_nothing_of_w_and_b_moves_a_key(tmp_path: Path) -> None:
    """All of it at once against none of it."""
    given = ["mode=online", "project=other", "group=g", "upload=files", "samples=1", "patience=1.0"]
    changed = [f"runtime.wandb.{text}" for text in given]
    usual = ["experiment=smoke", f"runtime.outputs={tmp_path}"]
    config = compose_config([*usual, *changed])
    assert set(OmegaConf.to_container(config.runtime.wandb)) == {text.partition("=")[0] for text in given}
    assert make_plan(config).names() == make_plan(compose_config(usual)).names()


def test_jobs_of_a_sweep_are_one_group(tmp_path: Path) -> None:
    assert group_of(tmp_path / "sweeps" / "day-kl" / "3") == "day-kl"
    assert group_of(tmp_path / "sweeps" / "day-kl") == group_of(tmp_path / "runs" / "day-kl") == "day-kl"


@pytest.mark.slow
@pytest.mark.parametrize("answers", [False, True], ids=["port closed", "never answers"])
def test_an_outage_holds_a_run_up_for_its_patience_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """The real process, asked to log online to an address where nobody answers."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if answers:
            server.listen()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        os.environ |= {"WANDB_BASE_URL": url, "WANDB_API_KEY": 40 * "0"}
        (tmp_path / PLACE).mkdir()
        head = {"event": "start", "mode": "online", "project": "p", "patience": 2.0, "kind": "run", "token": "t"}
        names = dict.fromkeys(("group", "experiment", "sweep", "constitution", "store"), "x")
        begun = {"event": "begun", "slot": "s", "stage": "s", "key": "k", "version": 1, "recipe": {}, "upstream": {}}
        lines = [{**head, **names, "replicate": 0}, {**begun, "folder": str(tmp_path)}, {"event": "end"}]
        (tmp_path / PLACE / EVENTS).write_text("".join(json.dumps(line) + "\n" for line in lines))
        started = time.perf_counter()
        with logging_process(tmp_path, mode="online", patience=2.0):
            pass
        assert time.perf_counter() - started < 2.0 + 5
