"""What W&B is given of a run, read back from its offline files; and what becomes of it when W&B does not answer."""

import json
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from email.message import Message
from http.client import BadStatusLine
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.error import HTTPError, URLError

import pytest
import wandb
from told_run import PPO_ROWS, RECIPE, SAMPLES, events, told, write_lines
from wandb_files import read_all

from cai_lightning.report import wandb_runs
from cai_lightning.report.tail import Tail
from cai_lightning.report.tracker import alone, follow
from cai_lightning.report.wandb_content import cell, texts
from cai_lightning.report.wandb_runs import Figures, done

SFT, PPO = f"sft-{16 * 's'}", f"ppo-{16 * 'p'}"


def silent(warning: str, outage: bool) -> None:
    raise AssertionError(f"{warning}, {outage}")


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A job's folder that was logged offline."""
    folder = told(tmp_path_factory.mktemp("logged"))
    follow(folder, silent, iter([False]))
    yield folder


@pytest.fixture
def runs(logged: Path) -> dict[str, Any]:
    return read_all(logged / "wandb")


def test_runs_of_a_sweep_are_one_group_with_the_slot_as_job_type(runs: dict[str, Any]) -> None:
    assert sorted(runs) == ["ppo", "run", "sft"]
    for run in runs.values():
        assert (run["project"], run["group"], run["exit"]) == ("p", "a-sweep", 0)
        assert run["tags"] == ["e", "replicate=2", "kl_coef", "one"]
    assert (runs["sft"]["name"], runs["run"]["name"]) == (SFT, "a-sweep-0")


def test_the_config_is_the_recipe_with_its_key(runs: dict[str, Any]) -> None:
    config = runs["ppo"]["config"]
    assert config["recipe"] == RECIPE
    assert config["store"] == {"stage": "ppo", "key": 16 * "p", "version": 1, "upstream": {"policy": f"sft/{16 * 's'}"}}


def test_figures_are_drawn_over_rl_samples_where_there_are_any(runs: dict[str, Any]) -> None:
    assert runs["sft"]["axes"] == {"step": "", "*": "step"}
    assert runs["ppo"]["axes"] == {"episode": "", "*": "episode"}
    history = [{name: row[name] for name in row if not name.startswith("_")} for row in runs["ppo"]["history"][:2]]
    assert history == [PPO_ROWS[0], {**PPO_ROWS[1], "episode": 16}]
    assert [str(row["loss"]) for row in runs["sft"]["history"]] == ["2", "nan"]


def test_artifacts_are_the_graph_of_the_store(runs: dict[str, Any]) -> None:
    assert (runs["sft"]["made"], runs["sft"]["used"]) == ([SFT], [])
    assert (runs["ppo"]["made"][-1], runs["ppo"]["used"]) == (PPO, [SFT])
    assert runs["run"]["used"] == [PPO]


def test_summary_figures_and_samples_are_there(runs: dict[str, Any], logged: Path) -> None:
    assert runs["run"]["summary"]["players/ppo/harmless_elo"] == 12.0
    assert runs["run"]["summary"]["feedback/accuracy"] == 0.75
    assert "reward_model/accuracy_helpful" not in runs["run"]["summary"]
    assert runs["ppo"]["summary"]["timing/seconds"] == 7.5
    (table,) = logged.glob("wandb/*/files/media/table/samples_*.json")
    shown = json.loads(table.read_text())
    assert shown["columns"] == ["prompt", "reply", "score"]
    assert shown["data"] == [["Human: hi", reply, 1] for reply in "036"]


def test_elo_of_snapshots_are_figures_over_rl_samples(runs: dict[str, Any]) -> None:
    assert runs["run"]["axes"] == {"episode": "", "curve/*": "episode"}
    shown = [row for row in runs["run"]["history"] if "curve/ppo/harmless_elo" in row]
    assert [(row["episode"], row["curve/ppo/harmless_elo"]) for row in shown] == [(32, 5), (64, 12)]
    assert not any("curve/ppo/evasive_rate" in row for row in runs["run"]["history"])


def test_nothing_is_logged_twice_and_what_is_missing_is_made_up(
    logged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = done(logged / "wandb")
    init = Recorded(lambda _: None)
    monkeypatch.setattr(wandb, "init", init)
    follow(logged, silent, iter([False]))
    assert (done(logged / "wandb"), init.opened) == (before, [])
    folder = told(tmp_path)
    (folder / "wandb" / "done.jsonl").write_text(json.dumps(before[0]) + "\n" + '{"id": "torn')
    follow(folder, silent, iter([False]))
    assert init.ways() == [("offline", "ppo"), ("offline", "run")]
    assert [line["id"] for line in done(folder / "wandb")] == [line["id"] for line in before]


def test_a_stage_that_was_under_way_when_its_run_was_killed_has_failed(tmp_path: Path) -> None:
    folder = told(tmp_path)
    write_lines(folder / "wandb" / "events.jsonl", events(tmp_path / "store")[:2])
    write_lines(tmp_path / "store" / "sft" / f"{16 * 's'}.partial" / "metrics.jsonl", [{"step": 9, "loss": 2.0}])
    follow(folder, silent, iter([True, False]))
    run = read_all(folder / "wandb")["sft"]
    assert run["exit"] == 1
    assert [row["loss"] for row in run["history"]] == [2.0]
    assert run["made"] == []


def test_only_one_process_logs_a_run(tmp_path: Path) -> None:
    folder = told(tmp_path)
    with alone(folder) as first, alone(folder) as second:
        assert (first, second) == (True, False)


class Recorded:
    """In place of `wandb.init`: what was opened; online runs do as they are told."""

    def __init__(self, start: Callable[[Mock], None]) -> None:
        self.opened: list[tuple[str, str, Mock]] = []
        self._start = start

    def __call__(self, *, mode: str, job_type: str, dir: str, id: str, **_: Any) -> Mock:
        run = Mock(offline=mode == "offline", dir=f"{dir}/wandb/{mode}-{job_type}/files", id=id)
        self.opened.append((mode, job_type, run))
        if mode == "online":
            self._start(run)
        return run

    def ways(self) -> list[tuple[str, str]]:
        return [(mode, slot) for mode, slot, _ in self.opened]


def refuses(_: Mock) -> None:
    raise wandb.errors.CommError("no such host\nsecond line")


def breaks_off(run: Mock) -> None:
    run.log_artifact.side_effect = wandb.errors.AuthenticationError("no answer")


def keeps_waiting(run: Mock) -> None:
    run.finish.side_effect = TimeoutError("not all was sent")


OFFLINE = [("offline", slot) for slot in ("sft", "ppo", "run")]


@pytest.mark.parametrize(
    ("trouble", "ways", "sent", "cause"),
    [
        (refuses, [("online", "sft"), *OFFLINE], [False, False, False], "no such host"),
        (breaks_off, [("online", "sft"), *OFFLINE], [False, False, False], "no answer"),
        (keeps_waiting, [("online", "sft"), *OFFLINE[1:]], [False, False, False], "not all was sent"),
        (lambda _: None, [("online", slot) for _, slot in OFFLINE], [True, True, True], None),
    ],
)
def test_where_w_and_b_does_not_answer_all_goes_on_offline_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Any, ways: Any, sent: Any, cause: str | None
) -> None:
    init = Recorded(trouble)
    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb_runs, "ask", lambda *_: None)
    folder, said = told(tmp_path, mode="online"), []
    follow(folder, lambda *words: said.append(words), iter([False]))
    assert init.ways() == ways
    assert [line["sent"] for line in done(folder / "wandb")] == sent
    expected = [(f"not reachable ({cause}); logging offline, `cai sync` sends it later", True)] if cause else []
    assert said == expected
    last = next(run for _, slot, run in reversed(init.opened) if slot == "sft")
    assert last.log.call_args_list[0].args[0]["loss"] == 2.0


def test_a_run_whose_name_w_and_b_holds_on_to_is_logged_under_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []
    init = Recorded(refuses)

    def held(*, mode: str, id: str, **names: Any) -> Mock:
        asked.append((mode, id))
        if mode == "offline" and ("online", id) in asked:
            raise RuntimeError("run ID is in use")
        return init(mode=mode, id=id, **names)

    monkeypatch.setattr(wandb, "init", held)
    monkeypatch.setattr(wandb_runs, "ask", lambda *_: None)
    folder = told(tmp_path, mode="online")
    follow(folder, lambda *_: None, iter([False]))
    name = asked[0][1]
    assert asked[:3] == [("online", name), ("offline", name), ("offline", f"{name}-again")]
    assert [line["id"] for line in done(folder / "wandb")] == [name, *(id for _, id in asked[3:])]


def test_a_run_that_was_never_asked_for_online_is_not_tried_under_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init = Mock(side_effect=OSError("no space left"))
    monkeypatch.setattr(wandb, "init", init)
    with pytest.raises(OSError, match="no space left"):
        follow(told(tmp_path, mode="offline"), lambda *_: None, iter([False]))
    assert init.call_count == 1


@pytest.mark.parametrize(
    ("problem", "answers"),
    [
        (None, True),
        (HTTPError("http://x", 404, "no page", Message(), None), True),
        (URLError(ssl.SSLError("unknown certificate")), True),
        (URLError(ConnectionRefusedError("refused")), False),
        (TimeoutError("timed out"), False),
        (BadStatusLine("SSH-2.0"), False),
    ],
)
def test_any_answer_is_one(monkeypatch: pytest.MonkeyPatch, problem: Exception | None, answers: bool) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", Mock(side_effect=problem))
    with nullcontext() if answers else pytest.raises(OSError, match=r"refused|timed out|BadStatusLine: SSH-2\.0"):
        wandb_runs.ask("http://x", 1.0)


def test_a_file_that_is_cut_back_and_grows_again_is_read_once(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    tail = Tail(file)
    assert tail.lines() == []
    file.write_text("one\ntwo\nthr")
    assert tail.lines() == ["one", "two"]
    file.write_text("one\n")
    assert tail.lines() == []
    file.write_text("one\ntwo\nthree\n")
    assert tail.lines() == ["three"]


def test_cells_and_evenly_spread_rows(tmp_path: Path) -> None:
    turns = [{"role": "human", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    assert cell(turns) == "Human: hi\n\nAssistant: yes"
    assert cell({"a": [1]}) == '{"a": [1]}'
    assert (cell(None), cell(0.5), cell("x")) == (None, 0.5, "x")
    write_lines(tmp_path / "rows.jsonl", [*SAMPLES[:2], {"extra": True}])
    write_lines(tmp_path / "metrics.jsonl", [{"step": 1}])
    write_lines(tmp_path / "empty.jsonl", [])
    found = texts(tmp_path, 100)
    assert list(found) == ["rows"]
    assert found["rows"][0] == ["prompt", "reply", "score", "extra"]
    assert found["rows"][1][2] == [None, None, None, True]
    assert texts(tmp_path, 0) == {}


def test_rows_before_the_first_rl_sample_do_not_move_the_axis() -> None:
    run = Mock()
    Figures(run).log([{"step": 1, "loss": 1.0}, {"step": 2, "episode": 3.0}])
    assert [call.args for call in run.define_metric.call_args_list] == [("step",), ("*",)]
