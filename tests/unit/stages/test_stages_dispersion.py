"""How far replies to different prompts lie apart, and how far reward models differ: worked by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from cai_lightning.stages import dispersion
from cai_lightning.stages.margin_spread import differences
from cai_lightning.text.records import Assessment, Prompt, Revision, read_rows, write_rows


def test_replies_are_compared_with_those_to_other_clusters(
    tmp_path: Path, make_prompt: Callable[[str], Prompt], chain: list[Revision]
) -> None:
    texts = {"a": "one two", "b": "one three", "c": "One  two", "d": "one two"}
    prompts = {name: make_prompt(name) for name in texts} | {"d": dataclasses.replace(make_prompt("d"), cluster="ca")}
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    write_rows(
        tmp_path / "in",
        [dataclasses.replace(chain[0], prompt=prompts[name], round=1, text=text) for name, text in texts.items()],
    )
    dispersion.run(tmp_path / "out", answers={}, revisions={"r": tmp_path / "in"}, neighbours=2)
    rows = read_rows(tmp_path / "out", Assessment)
    assert [(row.prompt, row.player, row.sequences) for row in rows] == [(name, "r@1", 1) for name in texts]
    # a: b and c, not d of its own cluster; b: c and d; c: d and a; d: b and c, the window wraps round
    assert [row.metrics["apart"] for row in rows] == pytest.approx([1 / 3, 2 / 3, 0, 1 / 3])
    assert [row.metrics["copied"] for row in rows] == [1, 0, 1, 1]
    dispersion.run(tmp_path / "out", answers={}, revisions={"r": tmp_path / "in"}, neighbours=1)
    assert [row.metrics["apart"] for row in read_rows(tmp_path / "out", Assessment)] == pytest.approx(
        [2 / 3, 2 / 3, 0, 2 / 3]
    )
    with pytest.raises(ValueError, match="neighbours: 0 given"):
        dispersion.run(tmp_path / "out", answers={}, revisions={"r": tmp_path / "in"}, neighbours=0)


def test_copies_within_one_cluster_are_none(
    tmp_path: Path, make_prompt: Callable[[str], Prompt], chain: list[Revision]
) -> None:
    both = [dataclasses.replace(chain[0], prompt=make_prompt("a"), text="same", round=1) for _ in range(2)]
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    write_rows(tmp_path / "in", both)
    dispersion.run(tmp_path / "out", answers={}, revisions={"r": tmp_path / "in"}, neighbours=5)
    assert [row.metrics for row in read_rows(tmp_path / "out", Assessment)] == 2 * [{"apart": None, "copied": 0}]


def test_reward_models_that_differ_spread_and_split() -> None:
    assert dict(differences([1.0, 3.0, -2.0])) == {
        "margin": pytest.approx(2 / 3),
        "spread": pytest.approx((19 / 3) ** 0.5),
        "split": pytest.approx(2 / 3),
        "correct": pytest.approx(2 / 3),
    }
    assert dict(differences([2.0, 2.0])) == {"margin": 2, "spread": 0, "split": 0, "correct": 1}
    assert dict(differences([0.0, 1.0])) == {
        "margin": 0.5,
        "spread": pytest.approx(0.5**0.5),
        "split": 0.5,
        "correct": 0.75,
    }
