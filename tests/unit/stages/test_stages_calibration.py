"""Labels against a truth: what counts, and that the interval of their error resamples prompts, not labels."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.constitution.principles import Constitution, Principle
from cai_lightning.stages.calibration import run
from cai_lightning.text.dialogue import Dialogue
from cai_lightning.text.records import Label, Prompt, write_rows

HARM = Principle(id="harm", critique=None, revision=None, comparison="which is worse ?")


def truth(_words: str, _dialogue: Dialogue, a: str, b: str) -> float | None:
    return None if a == b else float(a > b)


@pytest.fixture
def label(make_prompt: Callable[[str], Prompt]) -> Callable[..., Label]:
    def make(prompt: str, a: str, b: str, p_a: float) -> Label:
        nothing: dict[str, Any] = dict.fromkeys(("logit_ab", "logit_ba", "principle_hash", "model"))
        place = f"{prompt}{a}{b}{p_a}"
        return Label(
            id=place,
            prompt=make_prompt(prompt),
            a=a,
            b=b,
            p_a=p_a,
            source="ai",
            weight=1.0,
            principle="harm",
            **nothing,
        )

    return make


def test_ties_are_left_out_and_labels_of_one_prompt_are_one_piece_of_evidence(
    tmp_path: Path, label: Callable[..., Label]
) -> None:
    """Of twenty prompts, each with three labels at .75 and a tie, half are wrong: an error of .25 from 20 clusters."""
    labels, out = tmp_path / "labels", tmp_path / "out"
    texts = [("yx", "xy")[k % 2] for k in range(20)]
    rows = [label(f"p{k}", a, b, 0.75) for k, (a, b) in enumerate(texts) for _ in range(3)]
    for folder in (labels, out):
        folder.mkdir()
    write_rows(labels, [*rows, *(label(f"p{k}", "x", "x", 0.125) for k in range(20))])
    plain = Constitution(
        name="one", principles=(HARM,), critique_few_shots=(), comparison_few_shots=(), comparison_template=""
    )
    runs = [{"replicate": 0, "labels": str(labels)}]
    run(out, runs=runs, constitution=plain, truth=truth, bins=1, resamples=2000, seed=0)
    found = json.loads((out / "feedback.json").read_text())
    assert (found["n"], found["accuracy"], found["ece"]) == (60, 0.5, pytest.approx(0.25))
    noise = 0.5 / math.sqrt(20)
    assert found["ece_by_chance"] == pytest.approx(math.sqrt(2 / math.pi) * noise, rel=0.1)  # 60 labels: .58 of it
    assert found["ece_low"] == pytest.approx(max(0.0, 0.25 - 2.24 * noise), abs=0.03)
