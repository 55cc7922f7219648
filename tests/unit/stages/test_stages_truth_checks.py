"""Labels and critiques against truths that are written by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.constitution.principles import Constitution, constitution
from cai_lightning.microworld.critics import Critic, claimed
from cai_lightning.microworld.revisions import FOUND, NO_PROBLEM, NOT_FOUND
from cai_lightning.microworld.words import CATEGORIES
from cai_lightning.microworld.world import CATEGORY_OF
from cai_lightning.stages import critique_checks, label_checks
from cai_lightning.text.dialogue import Dialogue
from cai_lightning.text.records import Assessment, Label, Revision, read_rows, write_rows

ONE, TWO, THREE = CATEGORIES[:3]


@pytest.fixture
def principles() -> Constitution:
    def principle(name: str, aim: str) -> dict[str, str]:
        return {"id": name, "critique": f"find {aim} .", "revision": f"less {aim} .", "comparison": f"less {aim} ?"}

    return constitution(
        name="three",
        principles=[principle("narrow", ONE), principle("both", f"{ONE} or {TWO}"), principle("general", "harmful")],
        critique_few_shots=[],
        comparison_few_shots=[],
        comparison_template="{conversation} {principle} {a} {b}",
    )


def harm(category: str) -> str:
    return next(word for word, known in CATEGORY_OF.items() if known == category)


def truth(words: str, _: Dialogue, a: str, b: str) -> float | None:
    """Under "harmful" the shorter reply is better, under all else the longer one; equally long ones tie."""
    if len(a) == len(b):
        return None
    return float((len(a) < len(b)) == ("harmful" in words))


def test_labels_are_compared_with_their_own_and_with_the_general_truth(
    tmp_path: Path, principles: Constitution, make_label: Callable[..., Label]
) -> None:
    made = [
        make_label("0", principle="narrow", a="long", b="s", p_a=0.8, logit_ab=2.0, logit_ba=1.0),
        make_label("1", principle="general", a="long", b="s", p_a=0.6, logit_ab=1.0, logit_ba=-0.5),
        make_label("2", principle="narrow+both", a="same", b="size", p_a=0.5),
        make_label("3", principle="both", a="s", b="long", p_a=0.5),
        make_label("4", principle="both", a="s", b="long", p_a=1.0),
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    write_rows(tmp_path / "in", made)
    label_checks.run(
        tmp_path / "out",
        labels={"asked": tmp_path / "in"},
        constitution=principles,
        truth=truth,
        general="less harmful ?",
        floor=0.01,
    )
    rows = read_rows(tmp_path / "out", Assessment)
    assert {row.player for row in rows} == {"asked"}
    found = [row.metrics for row in rows]
    assert [row["correct"] for row in found] == [1, 0, None, 0.5, 0]
    assert [row["right"] for row in found] == [0, 0, None, 0.5, 1]
    assert [row["brier"] for row in found] == [*map(pytest.approx, (0.04, 0.36)), None, pytest.approx(0.25), 1]
    assert [row["nll"] for row in found if row["nll"]] == pytest.approx([0.22314, 0.91629, 0.69315, 4.60517], abs=1e-5)
    assert [row["overconfidence"] for row in found] == [*map(pytest.approx, (-0.2, 0.6)), None, 0, 1]
    assert found[0]["extremity"] == pytest.approx(0.3)
    assert [row.get("flipped") for row in found] == [0, 1, None, None, None]
    assert [row.get("slot_bias") for row in found] == [0.5, 0.75, None, None, None]


def test_what_critiques_claim_is_read_from_their_words(principles: Constitution) -> None:
    text = " ".join([FOUND.format(category=ONE, steps="go"), NOT_FOUND.format(category=TWO), "junk : it says"])
    assert claimed(text) == {ONE} and claimed(NO_PROBLEM) == claimed("") == set()
    check = Critic(constitution=principles)
    reply = f"sure . {harm(ONE)} and {harm(TWO)} ."
    assert check("both", reply, text) == {"recall": 0.5, "false_alarm": None, "present": 2}
    assert check("narrow", f"{harm(TWO)} .", text) == {"recall": None, "false_alarm": 1, "present": 0}
    general = check("general", reply, FOUND.format(category=THREE, steps="go"))
    assert general == {"recall": 0, "false_alarm": pytest.approx(1 / (len(CATEGORIES) - 2)), "present": 2}


def test_each_critique_is_checked_against_the_reply_that_it_is_about(
    tmp_path: Path, principles: Constitution, chain: list[Revision]
) -> None:
    fields: dict[str, Any] = {"principle": "narrow", "critique": FOUND.format(category=ONE, steps="go")}
    rows = [
        dataclasses.replace(chain[0], round=1, previous=harm(ONE), text="clean", **fields),
        dataclasses.replace(chain[0], round=2, previous="clean", text=harm(ONE), **fields),
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    write_rows(tmp_path / "in", rows)
    critique_checks.run(tmp_path / "out", revisions={"c": tmp_path / "in"}, check=Critic(constitution=principles))
    first, second = read_rows(tmp_path / "out", Assessment)
    assert (first.player, first.sequences, first.metrics["recall"]) == ("c@1", 1, 1)
    assert (second.player, second.metrics["recall"], second.metrics["false_alarm"]) == ("c@2", None, 1)
    write_rows(tmp_path / "in", [dataclasses.replace(rows[0], critique=None)])
    with pytest.raises(ValueError, match="direct revisions have nothing to check"):
        critique_checks.run(tmp_path / "out", revisions={"c": tmp_path / "in"}, check=Critic(constitution=principles))
