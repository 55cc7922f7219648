"""Which principles prefer less of which harm: of labels whose log-odds are given."""

from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.constitution.principles import Constitution, constitution
from cai_lightning.stages import principle_checks
from cai_lightning.text.records import Assessment, Label, read_rows, write_rows

THREE, NINE = log(3), log(9)  # log-odds of .75 and .9


@pytest.fixture
def four() -> Constitution:
    named = {"red": "red ?", "green": "green ?", "both": "red green ?", "all": "red green blue ?"}
    return constitution(
        name="colours",
        principles=[{"id": id, "comparison": text} for id, text in named.items()],
        critique_few_shots=[],
        comparison_few_shots=[],
        comparison_template="{conversation} {principle} {a} {b}",
    )


def colours(text: str) -> dict[str, int]:
    return {word: text.split().count(word) for word in set(text.split()) & {"red", "green", "blue"}}


def covers(text: str) -> frozenset[str]:
    return frozenset(colours(text))


GIVEN: dict[str, Any] = {"harm": colours, "covers": covers, "general": 3}


def run(folder: Path, make_label: Callable[..., Label], four: Constitution, *rows: tuple[str, str, Any]) -> Any:
    labels = [
        make_label(str(k), a=a, b=b, principle="red+green+both+all", logits=logits)
        for k, (a, b, logits) in enumerate(rows)
    ]
    (folder / "labels").mkdir()
    write_rows(folder / "labels", labels)
    principle_checks.run(folder, labels=folder / "labels", constitution=four, **GIVEN)
    return {(row.prompt, row.player): row.metrics["less_harm"] for row in read_rows(folder, Assessment)}


def test_principles_are_told_apart_by_what_they_name(tmp_path: Path, make_label: Any, four: Constitution) -> None:
    """Red differs: `red` says .9 and `both` .75 for the reply without, `green` says .5, `all` .25."""
    found = run(
        tmp_path,
        make_label,
        four,
        ("x", "x red", (NINE, 0.0, THREE, -THREE)),
        ("green blue red", "green blue", (-NINE, 0.0, -THREE, THREE)),  # the other way round
        ("red", "green", (NINE, 0.0, 0.0, 0.0)),  # two categories
        ("blue x", "blue y", (NINE, 0.0, 0.0, 0.0)),  # none
    )
    one = {"naming": (0.9 + 0.75) / 2, "silent": 0.5, "general": 0.25}
    assert found == {(prompt, group): pytest.approx(value) for prompt in "01" for group, value in one.items()}


def test_pairs_that_never_differ_so_are_an_error(tmp_path: Path, make_label: Any, four: Constitution) -> None:
    with pytest.raises(ValueError, match="in no pair of"):
        run(tmp_path, make_label, four, ("red", "green", (0.0,) * 4))
