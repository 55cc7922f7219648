from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cai_lightning.report import figures, lines, marks, style

METRICS = ("harmful_rate", "evasive_rate", "helpfulness", "benign_refusal_rate", "over_refusal_rate")


def figure(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 40}


def variant() -> dict[str, Any]:
    rates = {metric: figure(0.5, 0.4, 0.6) for metric in METRICS}
    anchor = {"helpful_elo": figure(0.0), "harmless_elo": figure(0.0)} | rates
    strong = {"helpful_elo": figure(5.0, -9.0, 20.0), "harmless_elo": figure(400.0, 300.0, None)} | rates
    single = {"helpful_elo": [4.0, 6.0], "harmless_elo": [390.0, 410.0]}
    return {
        "players": {"helpful_only": anchor, "ppo": strong},
        "replicate_values": {"helpful_only": single, "ppo": single},
        "curve": [{"player": f"ppo@{at}", "run": "ppo", "sequences": at, **strong} for at in (64, 128)],
        "ellipses": {"ppo": {"mean": [5.0, 400.0], "covariance": [[100.0, 0.0], [0.0, 25.0]]}},
        "frontier": {"pareto": ["ppo"]},
    }


CALIBRATION = {
    "accuracy": 0.8,
    "ece": 0.1,
    "brier": 0.2,
    "n": 20,
    "bins": [{"p": 0.5, "share": 0.6, "low": 0.3, "high": 0.8, "n": 20}],
}


def test_only_figures_with_data_are_drawn() -> None:
    assert set(figures.figures(variant(), CALIBRATION)) == {"frontier", "elo", "rates", "calibration"}
    bare = variant() | {"curve": [], "frontier": None, "players": {}}
    assert figures.figures(bare, None) == {}


def test_png_files_are_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        figures.write(tmp_path / name, figures.figures(variant(), CALIBRATION))
    names = {"frontier.png", "elo.png", "rates.png", "calibration.png"}
    assert {path.name for path in (tmp_path / "one").iterdir()} == names
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
        assert path.read_bytes().startswith(b"\x89PNG")


def test_svg_takes_the_page_s_colours_and_has_no_address() -> None:
    drawn = figures.svg(figures.figures(variant(), None)["frontier"], "frontier")
    assert drawn.startswith("<svg") and "http" not in drawn
    assert "var(--vermilion)" in drawn and "var(--ink)" in drawn
    assert not any(light in drawn for light in marks.LIGHT.values())


def test_ellipse_holds_95_percent_of_its_normal() -> None:
    covariance = np.array([[400.0, 150.0], [150.0, 100.0]])
    ellipse = figures._ellipse({"mean": [10.0, -5.0], "covariance": covariance.tolist()}, "#000000")
    points = np.random.default_rng(0).multivariate_normal([10.0, -5.0], covariance, size=20_000)
    inside = ellipse.get_patch_transform().inverted().transform(points)  # the unit circle
    assert (np.hypot(*inside.T) <= 1).mean() == pytest.approx(0.95, abs=0.005)


def test_snapshots_of_different_runs_make_different_lines() -> None:
    curve = [{"run": run, "sequences": at} for at in (64, 128) for run in ("ppo [kl=1]", "ppo [kl=2]")]
    found = lines.by_run({"curve": curve})
    assert {run: [snapshot["sequences"] for snapshot in snapshots] for run, snapshots in found.items()} == {
        "ppo [kl=1]": [64, 128],
        "ppo [kl=2]": [64, 128],
    }


def several_runs() -> dict[str, Any]:
    """Snapshots at 64 and 128 samples of one run that began with SL-CAI, of another, and of two that did not."""
    given = variant() | {"frontier": None}
    given["players"]["sl_cai"] = given["players"]["ppo"]
    for run in ("ppo_cot [a]", "rlhf_hh", "rlhf_helpful"):
        given["curve"] += [snapshot | {"run": run} for snapshot in given["curve"][:2]]
    return given


@pytest.mark.parametrize(("name", "metrics"), [("elo", 2), ("evasive", 1)])
def test_lines_of_rl_begin_with_sl_cai_where_the_run_did(name: str, metrics: int) -> None:
    (axes,) = figures.figures(several_runs(), None)[name].axes
    drawn = sorted(list(line.get_xdata()) for line in axes.lines)
    assert drawn == sorted(metrics * [[0, 64, 128], [0, 64, 128], [64, 128], [64, 128]])


def test_evasion_is_drawn_in_per_cent_with_every_run_in_the_legend() -> None:
    drawn = figures.figures(several_runs(), None)["evasive"]
    assert {float(y) for line in drawn.axes[0].lines for y in line.get_ydata()} == {50.0}
    assert texts(drawn)[1:] == ["RL-CAI (PPO)", "RL-CAI (PPO, CoT) [a]", "HH RLHF", "Helpful RLHF"]


def texts(drawn: Any) -> list[str]:
    return [text.get_text() for legend in drawn.legends for text in (legend.get_title(), *legend.get_texts())]


def test_many_players_and_runs_stand_in_legends_that_say_where_colours_repeat() -> None:
    few, many = variant(), variant()
    one, curve = many["players"]["ppo"], many["curve"]
    names = [f"ppo [kl={number}]" for number in range(12)]
    many |= {"players": many["players"] | dict.fromkeys(names, one), "curve": []}
    many["replicate_values"] = dict.fromkeys(many["players"], few["replicate_values"]["ppo"])
    many["curve"] = [snapshot | {"run": name} for name in names for snapshot in curve]
    drawn = {size: figures.figures(given, None) for size, given in (("few", few), ("many", many))}
    assert texts(drawn["few"]["frontier"]) == texts(drawn["few"]["elo"]) == []
    shown = texts(drawn["many"]["frontier"])
    assert shown[0].startswith("Colours repeat")
    assert shown[1:] == ["Helpful only", "RL-CAI (PPO)", *(f"RL-CAI (PPO) [kl={number}]" for number in range(12))]
    assert texts(drawn["many"]["elo"])[1:] == shown[3:]
    assert texts(drawn["many"]["rates"]) == shown
    assert texts(drawn["few"]["rates"]) == ["", "Helpful only", "RL-CAI (PPO)"]


def test_garbage_is_shown_where_there_is_some() -> None:
    players = variant()["players"]
    assert "garbage_rate" not in style.measured(players)  # a judge that does not tell
    none = {name: player | {"garbage_rate": figure(0.0, 0.0, 0.1)} for name, player in players.items()}
    assert "garbage_rate" not in style.measured(none)
    some = none | {"ppo": none["ppo"] | {"garbage_rate": figure(0.25, 0.1, 0.4)}}
    assert style.measured(some)[-2:] == ["over_refusal_rate", "garbage_rate"]
