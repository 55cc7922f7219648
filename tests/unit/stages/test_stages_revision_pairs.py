import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cai_lightning.stages.revision_pairs import comparisons, run
from cai_lightning.stages.sft import every, final
from cai_lightning.text.records import Comparison, Label, Prompt, Revision, read_rows, write_rows


@pytest.fixture
def revisions(tmp_path: Path, chain: list[Revision], make_prompt: Callable[[str], Prompt]) -> Path:
    """p: first, then t1, t2, t3. q: first, then t1 and again first."""
    rows = []
    for name, texts in (("p", ["first", "t1", "t2", "t3"]), ("q", ["first", "t1", "first", "first"])):
        for row in chain:
            one = row.round
            rows.append(
                dataclasses.replace(
                    row, id=f"{name}.r{one}", prompt=make_prompt(name), previous=texts[one - 1], text=texts[one]
                )
            )
    folder = tmp_path / "revisions"
    folder.mkdir()
    write_rows(folder, rows)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_the_last_revision_is_better_than_the_first_reply(out: Path, revisions: Path) -> None:
    run(out, revisions=revisions, choose=final, p_a=0.9, weight=0.5)
    rows = read_rows(out, Label)
    assert [(row.id, row.a, row.b, row.p_a, row.weight) for row in rows] == [("p.r3", "t3", "first", 0.9, 0.5)]
    assert (rows[0].source, rows[0].model, rows[0].logit_ab, rows[0].thoughts) == ("revision", "x", None, ())
    assert json.loads((out / "counts.json").read_text()) == {"rows": 1, "dropped": {"unchanged": 1}}


def test_every_round_is_set_against_the_first_reply(out: Path, revisions: Path) -> None:
    run(out, revisions=revisions, choose=every, p_a=1.0, weight=1.0)
    pairs = {row.id: (row.a, row.b) for row in read_rows(out, Label)}
    assert pairs == {f"p.r{n}": (f"t{n}", "first") for n in (1, 2, 3)} | {"q.r1": ("t1", "first")}


def test_the_same_pairs_to_be_labelled(out: Path, revisions: Path) -> None:
    comparisons(out, revisions=revisions, choose=final)
    assert [(row.id, row.a, row.b, row.source) for row in read_rows(out, Comparison)] == [
        ("p.r3", "t3", "first", "revision")
    ]


def test_p_a_is_a_probability(out: Path, revisions: Path) -> None:
    with pytest.raises(ValueError, match=r"p_a: is 1\.5"):
        run(out, revisions=revisions, choose=final, p_a=1.5, weight=1.0)
