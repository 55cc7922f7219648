"""What replies look like, row by row: of four replies by hand, and as the table of all of them together has it."""

import json
from pathlib import Path

import pytest

from cai_lightning.stages import surface, surface_checks
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Answer, Assessment, Prompt, read_rows, write_rows

RULES = {"short": 4, "boilerplate": "deserve", "refusal": "(?i)sorry", "reason": "because"}
SAID = {
    "a": ["Sorry .", "You deserve help , and here it is ."],
    "b": ["sorry  .", "Sorry , because it is illegal ."],
}


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    rows = [
        Answer(
            id=f"{name}{at}",
            prompt=Prompt(id=name, dialogue=human(name), source="s", kind="red_team", cluster=f"c{name}"),
            text=text,
            player="ppo",
            sequences=at,
            model="",
            temperature=1.0,
            seed=0,
            prompt_tokens=1,
            tokens=1,
            finish="stop",
        )
        for at in (None, 64)
        for name, texts in SAID.items()
        for text in (texts if at is None else texts[:1])
    ]
    (tmp_path / "answers").mkdir()
    write_rows(tmp_path / "answers", rows)
    return tmp_path / "answers"


def test_rows_say_what_each_reply_looks_like(tmp_path: Path, answers: Path) -> None:
    surface_checks.run(tmp_path, answers={"ppo": answers}, **RULES)
    found = read_rows(tmp_path, Assessment)
    assert {(row.player, row.sequences) for row in found} == {("ppo", None), ("ppo@64", 64)}
    last = [(row.prompt, row.metrics) for row in found if row.player == "ppo"]
    keys = ("words", "short", "boilerplate", "refuses", "bare", "repeated")
    assert last == [
        ("a", dict(zip(keys, (2, 1, 0, 1, 1, 1), strict=True))),  # the other prompt's, case and spaces apart
        ("a", dict(zip(keys, (9, 0, 1, 0, 0, 0), strict=True))),
        ("b", dict(zip(keys, (2, 1, 0, 1, 1, 1), strict=True))),
        ("b", dict(zip(keys, (7, 0, 0, 1, 0, 0), strict=True))),
    ]


def test_their_means_are_the_shares_of_the_table(tmp_path: Path, answers: Path) -> None:
    surface_checks.run(tmp_path, answers={"ppo": answers}, **RULES)
    rows = [row.metrics for row in read_rows(tmp_path, Assessment) if row.sequences is None]
    surface.run(tmp_path, samples={}, traces={}, answers={"ppo": answers}, revisions={}, gram=3, token=r"\w+", **RULES)
    table = json.loads((tmp_path / "surface.json").read_text())["answers"]["ppo"]
    for key, name in {
        "short": "short",
        "boilerplate": "boilerplate",
        "refuses": "refusal",
        "repeated": "repeated",
    }.items():
        assert sum(row[key] for row in rows) / len(rows) == pytest.approx(table[name]["value"])
    assert sum(row["words"] for row in rows) / len(rows) == pytest.approx(table["mean_words"])
