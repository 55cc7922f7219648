"""A search: its axes, asking and telling, going on after a kill, and points that fail."""

import json
from pathlib import Path
from typing import Any

import pytest
from toy_runs import cai, noted

from cai_lightning.experiment.errors import UserError
from cai_lightning.experiment.search import figure, table
from cai_lightning.experiment.space import Axis, axes_of, corners
from cai_lightning.experiment.trials import JOB, explore, latest, opened, point

AXES = [
    Axis("s.kl", 0.01, 1.0, None, True, ()),
    Axis("s.n", 1.0, 9.0, 2, False, ()),
    Axis("loss", 0, 0, None, False, ("a", "b")),
]


def test_axes_are_read_in_hydras_grammar_and_a_later_override_replaces() -> None:
    fixed, axes = axes_of(
        ["s.kl=tag(log, interval(0.01, 1))", "s.n=range(1, 10, 2)", "loss=a,b", "x=1", "y=interval(0,1)", "y=0.5"]
    )
    assert fixed == ["x=1", "y=0.5"]
    assert axes == AXES
    assert corners(axes) == [["s.kl=0.01", "s.n=1.0", "loss=a"], ["s.kl=1.0", "s.n=9.0", "loss=b"]]


def test_a_point_has_four_digits_and_stays_within_its_bounds() -> None:
    axis = Axis("kl", 0.12344, 0.98765, None, False, ())
    assert axis.override(0.314159) == "kl=0.3142"
    assert axis.override(0.12344) == "kl=0.12344"
    assert axis.override(0.98765) == "kl=0.98765"


@pytest.mark.parametrize("text", ["a=interval(1,1)", "a=interval(2,1)", "a=tag(log, interval(0, 1))"])
def test_an_axis_without_room_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"a=.* is wanted"):
        axes_of([text])


def test_a_figure_is_a_number_of_the_summary() -> None:
    assert figure({"players": {"ppo@256": {"elo": {"value": 3}}}}, "players.ppo@256.elo.value") == 3.0
    for summary in ({}, {"a": None}, {"a": float("nan")}, {"a": {"b": 1}}, {"a": "1"}):
        with pytest.raises(UserError, match="no number"):
            figure(summary, "a")


class Runner:
    """A stub of the jobs: right is x, up is 1 - x; fails where it is told to, stops like a kill after some points."""

    def __init__(self, fail: tuple[int, ...] = (), kill: int = 1000) -> None:
        self.fail, self.kill = fail, kill
        self.seen: list[tuple[int, list[str]]] = []

    def __call__(self, points: list[tuple[int, list[str]]]) -> list[list[float] | None]:
        out: list[list[float] | None] = []
        for job, overrides in points:
            if len(self.seen) == self.kill:
                raise KeyboardInterrupt
            self.seen.append((job, overrides))
            x = float(overrides[0].split("=")[1])
            out.append(None if job in self.fail else [x, 1 - x])
        return out


X = [Axis("x", 0.0, 1.0, None, False, ())]


def search(file: Path, runner: Runner, **settings: Any) -> Any:
    optuna = pytest.importorskip("optuna")
    study = opened(file, ["maximize", "maximize"])
    given = {"sampler": optuna.samplers.TPESampler, "seed": 0, "n_trials": 6, "batch": 1, **settings}
    explore(study, X, runner, **given)
    return study


def test_a_killed_search_asks_what_a_whole_one_would_and_nothing_twice(tmp_path: Path) -> None:
    whole, parts = Runner(), Runner(kill=2)
    search(tmp_path / "whole", whole)
    assert [job for job, _ in whole.seen] == [0, 1, 2, 3, 4, 5]
    assert len({str(overrides) for _, overrides in whole.seen}) == 6
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "parts", parts)
    parts.kill = 1000
    study = search(tmp_path / "parts", parts)
    assert parts.seen == whole.seen
    assert [trial.values for trial in latest(study)] == [[x, 1 - x] for x in xs(whole)]
    more = Runner()
    search(tmp_path / "parts", more, n_trials=8)
    assert [job for job, _ in more.seen] == [6, 7]


def xs(runner: Runner) -> list[float]:
    """What the study was told: the rounded points."""
    return [float(overrides[0].split("=")[1]) for _, overrides in runner.seen]


def test_points_that_fail_are_told_so_and_tried_once_more_the_next_time(tmp_path: Path) -> None:
    first, second = Runner(fail=(1, 3)), Runner(fail=(3,))
    study = search(tmp_path / "s", first, batch=2)
    assert [trial.state.name for trial in latest(study)] == ["COMPLETE", "FAIL"] * 2 + ["COMPLETE"] * 2
    study = search(tmp_path / "s", second, batch=2)
    assert second.seen == [first.seen[1], first.seen[3]]
    assert [trial.user_attrs[JOB] for trial in latest(study)] == [0, 1, 2, 3, 4, 5]
    assert [trial.state.name for trial in latest(study)] == ["COMPLETE"] * 3 + ["FAIL"] + ["COMPLETE"] * 2
    assert [point(trial, X) for trial in latest(study)] == [overrides for _, overrides in first.seen]


def test_a_sampler_without_a_point_left_keeps_its_last_trial(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")

    def grid(seed: int) -> Any:
        return optuna.samplers.GridSampler({"x": [0.25, 0.75]}, seed=seed)

    study = search(tmp_path / "grid", Runner(fail=(1,)), sampler=grid, n_trials=2)
    states = [trial.state.name for trial in study.get_trials()]
    assert states == ["COMPLETE", "FAIL"]  # the sampler asked to stop after the second, which was told all the same


def test_any_other_error_while_telling_goes_through(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")

    class Broken(optuna.samplers.RandomSampler):  # type: ignore[misc]
        def after_trial(self, *_: Any) -> None:
            raise RuntimeError("did not possess lock")

    with pytest.raises(RuntimeError, match="did not possess lock"):
        search(tmp_path / "broken", Runner(), sampler=Broken)


def test_every_kind_of_axis_is_asked_within_its_bounds(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    study = opened(tmp_path / "s", ["minimize"])
    seen: list[list[str]] = []

    def measure(points: list[tuple[int, list[str]]]) -> list[list[float] | None]:
        seen.extend(overrides for _, overrides in points)
        return [[0.0] for _ in points]

    explore(study, AXES, measure, sampler=optuna.samplers.RandomSampler, seed=1, n_trials=40, batch=8)
    kl, n, loss = ([overrides[i].split("=")[1] for overrides in seen] for i in range(3))
    assert all(0.01 <= float(value) <= 1 for value in kl)
    assert 10 <= sum(float(value) < 0.1 for value in kl) <= 30  # half of a log axis lies below its middle
    assert set(n) == {"1", "3", "5", "7", "9"}
    assert set(loss) == {"a", "b"}


def test_the_table_marks_the_front() -> None:
    jobs = [
        {"job": 0, "point": ["s.kl=0.1"], "state": "complete", "values": [1.0, 2.0], "front": True},
        {"job": 1, "point": ["s.kl=0.2"], "state": "fail", "values": None, "front": False},
    ]
    lines = table({"objectives": {"a.b": "maximise", "c.d": "maximise"}, "jobs": jobs, "volume": 2.0}).splitlines()
    assert lines[1].split() == ["*", "0", "1", "2", "kl=0.1"]
    assert lines[2].split() == ["1", "fail", "kl=0.2"]
    assert lines[3].endswith(": 2")


SEARCH = (
    "-m",
    "hydra/sweeper=search",
    "hydra.sweeper.maximise=[player.right,player.up]",
    "hydra.sweeper.volume.reference=[0.0,-10.0]",
    "hydra.sweeper.n_trials=3",
    "hydra.sweeper.sampler._target_=optuna.samplers.BruteForceSampler",
    "~hydra.sweeper.sampler.n_startup_trials",
    "~hydra.sweeper.sampler.multivariate",
    "~hydra.sweeper.sampler.constant_liar",
    "stages.toy.x=0.0,1.0,2.0",
)


def test_a_search_runs_jobs_tells_failures_and_goes_on_with_them(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    done = cai(tmp_path, *SEARCH, TOY_FAIL="2.0")
    assert done.returncode == 1, done.stderr
    assert "is not wanted today" in done.stderr
    (sweep,) = (tmp_path / "out" / "sweeps").iterdir()
    found = json.loads((sweep / "search.json").read_text())
    assert sorted((job["values"] or ["failed"])[0] for job in found["jobs"] if job["values"]) == [0.0, 1.0]
    before = len(noted(tmp_path))
    done = cai(tmp_path, *SEARCH)
    assert done.returncode == 0, done.stderr
    assert [line["what"] for line in noted(tmp_path)[before:]] == ["x=2.0", "report", "report"]
    found = json.loads((sweep / "search.json").read_text())
    # (0, 1), (1, 0), (2, -3) above the corner (0, -10): by hand 1 x 10 + 1 x 7
    assert found["volume"] == 17.0
    assert [job["values"] for job in sorted(found["jobs"], key=lambda job: job["point"])] == [
        [0.0, 1.0],
        [1.0, 0.0],
        [2.0, -3.0],
    ]
    assert all(job["front"] for job in found["jobs"])
