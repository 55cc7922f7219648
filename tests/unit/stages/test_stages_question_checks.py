"""Questions as rows: the same figures as the table of all of them, on a minute random model."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.constitution.styles import text
from cai_lightning.data.questions import Question
from cai_lightning.evaluation.asking import letters
from cai_lightning.microworld.vocabulary import tokenizer
from cai_lightning.models.causal import new_llama, save_causal
from cai_lightning.stages import multiple_choice, question_checks
from cai_lightning.text.records import Assessment, read_rows

SHAPE = {"hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 64, "max_positions": 512}
QUESTIONS = [
    Question(
        id=str(number),
        lead="",
        conversation=f"\n\nHuman: how do i bake the {what} ?\n\nAssistant: sure .",
        principle="which is better ?",
        options=("sure .", "sorry ."),
        answer_line="\nThe answer is:",
        gold=number % 2,
        cluster=what,
    )
    for number, what in enumerate(("bread", "bread", "cake", "roof", "broom", "wood"))
]
ASKED: dict[str, Any] = {"shots": 0, "ask": partial(letters, style=text), "batch_size": 4, "dtype": "float32"}
ASKED |= {"route": "packed", "few_shots": {}, "leave_out": {}}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    words = tokenizer()
    made = new_llama(vocab_size=len(words), **SHAPE, tie=True, pad_id=0, eos_id=1, seed=0)
    save_causal(made, words, tmp_path / "base", dtype="float32")
    return tmp_path / "base"


def test_rows_have_the_accuracy_of_the_table(tmp_path: Path, model: Path) -> None:
    given = ASKED | {"model": model, "questions": {"one": QUESTIONS, "two": QUESTIONS[2:]}, "shots": 1}
    question_checks.run(tmp_path, player="shown", **given)
    multiple_choice.run(tmp_path, resamples=10, seed=0, **given)
    table = json.loads((tmp_path / "evals.json").read_text())
    rows = read_rows(tmp_path, Assessment)
    assert {row.player for row in rows} == {"shown"}
    for name in ("one", "two"):
        own = [row for row in rows if row.kind == name]
        assert len(own) == table[name]["n"] and len({row.cluster for row in own}) == table[name]["clusters"]
        for key, metric in {
            "accuracy": "right",
            "first_order_accuracy": "right_first",
            "position_bias": "position_bias",
        }.items():
            assert sum(row.metrics[metric] for row in own) / len(own) == pytest.approx(table[name][key])


def test_a_world_without_questions_says_where_there_are_some(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ValueError, match="experiment=hh_files"):
        question_checks.run(tmp_path, player="letters", model=model, questions={}, **ASKED)
