from __future__ import annotations

import csv
import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_findings import ATTACK, arm, claim, made

from cai_lightning.report import sweep
from cai_lightning.report.feedback import FIGURES
from cai_lightning.report.findings import COLUMNS, draw, rows, section
from cai_lightning.report.panels import panels


class Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, _: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(markup: str) -> Text:
    found = Text()
    found.feed(markup)
    return found


def test_the_section_shows_claims_verdicts_and_arms_and_escapes_what_it_is_given() -> None:
    found = read(section(made()))
    text = " ".join(" ".join(found.words).split())
    assert "script" not in found.tags and text.count(ATTACK) == 6  # question, prediction, note, and three of a claim
    for shown in ("reproduced", "equivalent", "contradicted", "inconclusive", "not decided", "the effect vanishes"):
        assert shown in text
    for shown in ("−30.0", "−35.0 … −25.0", "equal within 2.0", "+1.0", "0.013", "< 0.001 alone"):
        assert shown in text
    assert "revisions@1 − revisions@0" in text
    assert "2 replicates, reseeded from respond" in text
    assert "80.0" in text and "75.0 … 85.0" in text and "2.25" in text  # arms: per cent, and nats as they are
    assert found.tags.count("svg") == 2


def test_an_arm_of_ties_alone_says_so_and_a_claim_says_when_only_the_correction_keeps_it_open() -> None:
    even = {"value": 0.5, "low": 0.42, "high": 0.58, "n": 20, "tied": True}
    tied = {"arm": "tied", "run": "tied", "at": None, "figures": {"harmful_rate": even}}
    open_ = claim("late", "inconclusive", -0.1, p=0.02, p_holm=0.06, words="inconclusive", than=0.1)
    table = made(arms=[tied], claims=[open_])
    text = " ".join(" ".join(read(section(table)).words).split())
    assert "only ties, counted as 50.0 42.0 … 58.0" in text
    assert "shown alone, but not among all claims" in text and text.count("inconclusive") == 1
    turned = claim("late", "inconclusive", 0.1, p=0.02, p_holm=0.06, words="inconclusive", than=0.1)
    assert "contradicted alone, but not among all claims" in " ".join(read(section(made(claims=[turned]))).words)
    assert "less than 10.0 %" in text and "Harmful, points from 10.0" in text
    assert "Without its ingredient" not in text  # no claim has a control
    assert [row["words"] for row in rows(table)] == ["only ties", "inconclusive"]


def line(axes: Any, colour: str) -> list[tuple[float, float]]:
    return [
        (float(x), round(float(y), 6))
        for one in axes.lines
        if one.get_color() == colour and one.get_marker() not in ("None", "", None)
        for x, y in zip(one.get_xdata(), one.get_ydata(), strict=True)
    ]


def test_lines_run_over_rounds_in_order_and_an_arm_without_round_is_a_level() -> None:
    (figure,) = draw(made()).values()
    harmful, kl = figure.axes
    first = harmful.lines[0].get_color()
    assert line(harmful, first) == [(0, 80), (1, 50), (4, 20)]
    assert line(kl, first) == [(0, 0), (1, 4), (4, 9)]
    levels = [one.get_ydata() for one in harmful.lines if one.get_linestyle() == "--"]
    assert [list(level) for level in levels] == [[30, 30]]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Harmful, %", "KL, nats"]


def test_the_axis_of_a_divergence_is_its_square_root() -> None:
    figures = panels(made("kl"))
    (axes,) = figures["harmful_rate"].axes
    assert line(axes, axes.lines[0].get_color()) == [(0, 80), (2, 50), (3, 20)]
    assert axes.get_xlabel() == "√ KL, nats"
    single = line(axes, axes.lines[-1].get_color())
    assert single == [(math.sqrt(2.25), 30)]


SIZES = {"x": "setting", "setting": "model", "metrics": ["kl"], "runs": None}
SIZED = [
    arm("ppo [model=small, labels=hard]", None, 0.1, 2.0),
    arm("ppo [model=tiny, labels=hard]", None, 0.1, 1.0),
    arm("ppo [labels=soft, model=tiny]", 3, 0.1, 4.0),
    arm("sl_cai [clamp=[0.4, 0.6], model=tiny]", None, 0.1, 3.0),
    arm("helpful_only", None, 0.1, 9.0),
]


def test_lines_run_over_the_numbers_of_a_setting() -> None:
    """What remains of a run without the setting is a line, at each of its points; an arm without is a level."""
    given = SIZES | {"values": {"tiny": 0.2, "small": 0.8}, "x_label": "parameters, millions", "log": True}
    (axes,) = panels(made(arms=SIZED, figure=given))["kl"].axes
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines if line.get_marker() != "None"]
    assert lines == [([0.2, 0.8], [1.0, 2.0]), ([0.2], [4.0]), ([0.2], [3.0])]
    assert [text.get_text() for legend in axes.figure.legends for text in legend.get_texts()] == [
        "RL-CAI (PPO) [labels=hard]",
        "RL-CAI (PPO) [labels=soft]@3",
        "SL-CAI [clamp=[0.4, 0.6]]",
        "Helpful only",
    ]
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "parameters, millions"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.2", "0.8"]


def test_a_setting_may_be_a_number_itself() -> None:
    arms = [arm(f"revisions [count={count}]", None, 0.1, float(count)) for count in (16, 1, 4)]
    (axes,) = panels(made(arms=arms, figure=SIZES | {"setting": "count"}))["kl"].axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [1, 4, 16] and axes.get_xlabel() == "count"


def test_arms_stand_in_lines_with_their_intervals() -> None:
    (figure,) = draw(made("arm")).values()
    harmful, kl = figure.axes
    names = [label.get_text() for label in harmful.get_yticklabels()]
    assert names == ["revisions@0", "revisions@1", "revisions@4", "blind@0", "blind@1", "direct"]
    assert {label.get_text() for label in kl.get_yticklabels()} == {""}
    ends = [
        [tuple(map(float, point)) for point in path.vertices] for c in harmful.collections for path in c.get_paths()
    ]
    assert [(round(a), round(b)) for (a, _), (b, _) in ends] == [(75, 85), (45, 55), (15, 25), (75, 85), (25, 35)]


@pytest.mark.parametrize("figure", [None, {"x": "at", "x_label": None, "metrics": ["unknown"], "runs": ["none"]}])
def test_what_is_missing_is_left_out(figure: Any) -> None:
    bare = made(figure=figure, arms=[], claims=[], note=None, prediction=None, reseeded=None, replicates=[])
    assert draw(bare) == {} and rows(bare) == []
    assert "<svg" not in section(bare) and "rounds of revision" in section(bare)
    empty = {"arm": "a", "run": "a", "at": None, "figures": {"new": None}}
    assert "<svg" not in section(made(arms=[empty], claims=[], figure=figure))


def test_rows_hold_every_figure_unrounded() -> None:
    found = rows(made())
    assert all(tuple(row) == COLUMNS for row in found)
    arms = [row for row in found if row["part"] == "arm"]
    assert [(row["name"], row["metric"], row["value"]) for row in arms[:3]] == [
        ("revisions@0", "harmful_rate", 0.8),
        ("revisions@0", "kl", 0.0),
        ("revisions@4", "harmful_rate", 0.2),
    ]
    first = next(row for row in found if row["part"] == "claim")
    assert (first["value"], first["control_value"], first["p_holm"], first["verdict"]) == (
        -0.3,
        0.01,
        0.0125,
        "reproduced",
    )
    assert len(found) == 12 + 5


def test_a_run_without_players_leaves_the_files_of_any_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, folder = tmp_path / "table", tmp_path / "run"
    for path in (table, folder):
        path.mkdir()
    (table / "findings.json").write_text(json.dumps(made()))
    facts = {"experiment": "ablation", "replicate": 0, "seconds": 1.0, "peak_rss_mb": 2, "stages": {}}
    sweep.run(folder, run=facts, findings=table, tables={}, judge=None, note="a note")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["tables"]["findings"] == made() and summary["seeds"] == [0] and summary["schema"] == 1
    assert summary["anchor"] is None and summary["players"] == {} and summary["frontier"] == {"hypervolume": None}
    assert summary["feedback"] == dict.fromkeys(FIGURES)
    page = read((folder / "report.html").read_text())
    assert "script" not in page.tags and "a note" in page.words and page.tags.count("svg") == 2
    assert (folder / "figures" / "rounds_of_revision.png").read_bytes()[:4] == b"\x89PNG"
    with (folder / "findings.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 17
    printed = " ".join(capsys.readouterr().out.split())
    for shown in (
        "the first round helps",
        "−30.0",
        "−35.0 … −25.0",
        "equal within 2.0",
        "0.013",
        "without critique: the effect vanishes",
    ):
        assert shown in printed
