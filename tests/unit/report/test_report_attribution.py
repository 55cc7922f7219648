import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.report import attribution
from cai_lightning.report.attribution_page import order, sections

BAD = "<script>alert(1)</script> & $x"
FACTS = {"experiment": "ablate <b>", "seconds": 1.0}


def figure(value: float | None) -> dict[str, Any]:
    ends = (None, None) if value is None else (value - 0.01, value + 0.01)
    return {"value": value, "low": ends[0], "high": ends[1], "n": 40}


def square(value: float) -> dict[str, Any]:
    return {end: [[1.0, value], [value, 1.0]] for end in ("value", "low", "high")}


def principle(id: str, lost: float) -> dict[str, Any]:
    pair = {"criterion": "harmless", "prompt": f"\n\nHuman: {BAD}", "a": BAD, "b": "b", "better": "a"}
    return {
        "id": id,
        "text": BAD,
        "covers": ["x"],
        "effects": {
            kind: {"harmless": figure(value), "helpful": figure(None)}
            for kind, value in (("leave_one_out", lost), ("add_one", 0.25), ("accuracy", 0.0))
        },
        "turned": {"harmless": {"left_out": 0.125, "alone": 0.5}},
        "flips": [{**pair, "p_with": 0.61, "p_without": 0.42}],
        "dissents": [{**pair, "p_alone": 0.2, "p_whole": 0.7}],
    }


@pytest.fixture
def found() -> dict[str, Any]:
    one = {"preference": figure(0.75), "accuracy": figure(0.8), "pairs": 40, "known": 30}
    cells = {end: [[0.2, None], [-0.1, 0.0]] for end in ("value", "low", "high")}
    return {
        "constitution": BAD,
        "through": "labels",
        "truth_is": {"harmless": BAD, "helpful": "people"},
        "replicates": [0, 1],
        "pairs": 80,
        "whole": {"harmless": one, "helpful": one},
        "principles": [principle(f"little {BAD}", 0.01), principle("much", 0.02)],
        "swap": {"harmless": square(-0.03), "helpful": None},
        "redundancy": {
            "principles": ["little", "much"],
            "matrix": square(0.5)["value"],
            "low": square(0.5)["low"],
            "high": square(0.5)["high"],
            "offset": square(0.5),
        },
        "categories": {"names": ["x", BAD], "n": [20, 20], "add_one": cells, "leave_one_out": cells},
        "truth": {"followed": figure(0.8), "rank_correlation": {"add_one": figure(0.42)}, "cells": 4},
    }


def written(folder: Path, found: dict[str, Any]) -> str:
    folder.mkdir()
    (folder / "attribution.json").write_text(json.dumps(found))
    attribution.run(folder, run=FACTS, attribution=folder, note="made of <words>")
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_stands_alone_and_nothing_that_came_in_is_markup(tmp_path: Path, found: dict[str, Any]) -> None:
    page = written(tmp_path / "one", found)
    assert page == written(tmp_path / "two", found)
    assert "<script" not in page and "<b>ablate" not in page and "made of &lt;words&gt;" in page
    assert not re.search(r"(src|href)=\"(?!#)|https?:|@import", page)
    assert page.count("&lt;script&gt;alert(1)") >= 10
    for shown in (
        "+2.00",
        "+1.00 … +3.00",
        "12.5 left out",
        "P with it 0.610, without it 0.420",
        "P alone 0.200",
        "0.42",
    ):
        assert shown in page
    assert {path.name for path in (tmp_path / "one" / "figures").iterdir()} == {"leave_one_out.png", "add_one.png"}


def test_what_is_worth_most_on_all_criteria_alone_comes_first_or_what_is_missed_most(found: dict[str, Any]) -> None:
    little, much = found["principles"]
    little["effects"]["add_one"]["helpful"] = figure(0.2)  # .25 + .2 beside .25 + unknown
    assert order(found["principles"]) == [little, much]
    for one in (little, much):
        del one["effects"]["add_one"]
    assert order(found["principles"]) == [much, little]


def test_the_table_holds_every_effect(tmp_path: Path, found: dict[str, Any]) -> None:
    written(tmp_path / "one", found)
    text = (tmp_path / "one" / "attribution.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == 2 * 3 * 2
    much = next(row for row in rows if (row["principle"], row["effect"]) == ("much", "leave_one_out"))
    assert (much["criterion"], much["value"], much["low"], much["n"]) == ("harmless", "0.02", "0.01", "40")


def test_through_a_reward_model_and_with_nothing_left_out_the_page_is_shorter(found: dict[str, Any]) -> None:
    for one in found["principles"]:
        del one["effects"]["add_one"]
        one["dissents"] = []
    alone = {**found, "redundancy": None, "swap": {}, "categories": None, "truth": None}
    text = "".join(sections(alone))
    assert "leave_one_out" in text and "add_one" not in text and "Who says the same" not in text
    empty = {**alone, "principles": [], "whole": {}}
    assert "One set of principles alone says nothing" in "".join(sections(empty))
