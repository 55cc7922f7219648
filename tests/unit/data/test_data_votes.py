"""Answers with votes: strict reading, and the labels that votes make, by hand and by their laws."""

from __future__ import annotations

import json
from functools import partial
from itertools import combinations
from math import exp
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_lightning.data.preferences import by_margin, certain
from cai_lightning.data.reading import Read
from cai_lightning.data.rows import prompt_of
from cai_lightning.data.tables import file_table
from cai_lightning.data.votes import ranked, vote_pairs
from cai_lightning.stages import labels as labels_stage
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Label, Ranked, read_rows

QUESTION = {
    "question": "why ?",
    "answers": [{"text": "so .", "score": 3}, {"text": " no .", "score": -1}, {"text": "yes .", "score": 3}],
}


def read(path: Path, *rows: Any, **changes: Any) -> Read[Ranked]:
    path.write_text("".join(json.dumps(row) + "\n" if not isinstance(row, str) else row + "\n" for row in rows))
    columns = {"prompt": "question", "answers": "answers", "text": "text", "votes": "score"}
    given: dict[str, Any] = {"source": "s", "kind": "benign", "skip": 0, "limit": None, "skip_bad": False}
    return ranked(table=file_table(path=path, pattern=None), **(columns | given | changes))


def voted(answers: list[str], votes: list[float], asked: str = "why ?") -> Ranked:
    prompt = prompt_of(human(asked), "s", "benign")
    return Ranked(id=prompt.id, prompt=prompt, answers=tuple(answers), votes=tuple(votes))


def pairs(rows: list[Ranked], limit: int | None = None, **changes: Any) -> Read[Label]:
    settings: dict[str, Any] = {"p_chosen": certain, "source": "votes", "weight": 1.5, "seed": 0}
    return vote_pairs(ranked=rows, pairs_per_prompt=limit, **(settings | changes))


def test_a_row_is_a_question_and_its_answers_with_votes(tmp_path: Path) -> None:
    found = read(tmp_path / "f.jsonl", QUESTION, {"question": "what ?", "answers": []})
    one, other = found.rows
    assert one.prompt.dialogue == human("why ?") and one.id == one.prompt.id
    assert (one.answers, one.votes) == (("so .", "no .", "yes ."), (3.0, -1.0, 3.0))
    assert (other.answers, other.votes) == ((), ())
    twice = read(tmp_path / "f.jsonl", QUESTION, {**QUESTION, "answers": []}, {"question": " ", "answers": []})
    assert len(twice.rows) == 1 and twice.dropped == {"duplicate": 1, "no_human_turn": 1}


def test_columns_are_named_and_a_prompt_may_be_a_chat(tmp_path: Path) -> None:
    turns = [{"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"))]
    row = {"chat": turns, "replies": [{"words": "d", "up": "7"}]}
    names = {"prompt": "chat", "answers": "replies", "text": "words", "votes": "up"}
    (found,) = read(tmp_path / "f.jsonl", row, **names).rows
    assert len(found.prompt.dialogue) == 3 and (found.answers, found.votes) == (("d",), (7.0,))


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ({"prompt": "why ?"}, "no key 'question'; found prompt"),
        ({"question": "why ?"}, "no key 'answers'; found question"),
        ({"question": "why ?", "answers": "so ."}, "'answers' must list the answers, is 'so .'"),
        (
            {"question": "why ?", "answers": ["so ."]},
            r"answers\[0\] must be an object with 'text' and 'score', is 'so .'",
        ),
        ({"question": "why ?", "answers": [{"text": "x"}]}, r"answers\[0\]: no key 'score'; found text"),
        ({"question": "why ?", "answers": [{"text": "x", "score": "many"}]}, r"answers\[0\]: 'score' must be a number"),
        ({"question": "why ?", "answers": [{"text": "x", "score": "nan"}]}, r"answers\[0\]: 'score' must be a count"),
        ({"question": "why ?", "answers": [{"text": "x", "score": True}]}, r"answers\[0\]: 'score' must be a count"),
        ({"question": "why ?", "answers": [{"text": 3, "score": 1}]}, r"answers\[0\]: 'text' must be text or a list"),
        ('{"question": "why ?", "answers": [{"text": "x", "score": NaN}]}', "NaN is not JSON"),
    ],
)
def test_a_bad_row_is_one_line_with_file_and_line(tmp_path: Path, row: Any, cause: str) -> None:
    with pytest.raises(ValueError, match=rf"f\.jsonl:2: {cause}") as error:
        read(tmp_path / "f.jsonl", QUESTION, row)
    assert "\n" not in str(error.value)
    found = read(tmp_path / "f.jsonl", QUESTION, row, skip_bad=True)
    assert len(found.rows) == 1 and found.dropped == {"bad_row": 1} and "f.jsonl:2: " in found.skipped[0]


def test_votes_become_labels_of_the_better_voted_answer() -> None:
    """Of three answers with 3, -1 and 3 votes two pairs say something."""
    found = pairs([voted(["so .", "no .", "yes ."], [3, -1, 3])])
    assert {(row.a, row.b) for row in found.rows} == {("so .", "no ."), ("yes .", "no .")}
    assert {(row.p_a, row.weight, row.source, row.model) for row in found.rows} == {(1.0, 1.5, "votes", None)}
    assert found.dropped == {"equal_votes": 1}


def test_a_soft_label_is_the_logistic_of_the_difference_in_votes() -> None:
    (row,) = pairs([voted(["so .", "no ."], [1, 5])], p_chosen=partial(by_margin, scale=0.5)).rows
    assert (row.a, row.b) == ("no .", "so .")
    assert row.p_a == pytest.approx(1 / (1 + exp(-2)))


def test_pairs_that_say_nothing_are_counted() -> None:
    rows = [voted(["a", " a", "", "b", "b"], [4, 3, 2, 1, 0])]
    found = pairs(rows)
    # a and " a" are one reply, as are both b; the empty one meets four others; a over b stands there twice
    assert sorted((row.a, row.b) for row in found.rows) == [(" a", "b"), ("a", "b")]
    assert found.dropped == {"identical_replies": 2, "empty_reply": 4, "duplicate": 2}


answered = st.lists(st.tuples(st.integers(0, 4), st.text("ab", min_size=1, max_size=3)), max_size=6)


@given(st.lists(answered, max_size=5), st.integers(0, 4), st.integers(0, 3), st.randoms())
def test_the_draw_is_a_smaller_one_of_all_pairs_and_knows_no_order(questions, limit, seed, random):  # type: ignore[no-untyped-def]
    rows = [
        voted([text for _, text in found], [vote for vote, _ in found], f"q{number} ?")
        for number, found in enumerate(questions)
    ]
    everything = {row.id: row for row in pairs(rows, seed=seed).rows}
    expected = {
        (row.id, *((x, y) if v > w else (y, x)))
        for row in rows
        for (v, x), (w, y) in combinations(zip(row.votes, row.answers, strict=True), 2)
        if v != w and x != y
    }
    assert {(row.prompt.id, row.a, row.b) for row in everything.values()} == expected
    drawn = pairs(rows, limit, seed=seed).rows
    assert all(everything[row.id] == row for row in drawn)
    assert all(sum(row.prompt.id == one.id for row in drawn) <= limit for one in rows)
    more = {row.id for row in pairs(rows, limit + 1, seed=seed).rows}
    assert {row.id for row in drawn} <= more
    mixed = [
        voted(*map(list, zip(*random.sample(found, len(found)), strict=True)), one.prompt.dialogue[0].content)
        if (found := [*zip(one.answers, one.votes, strict=True)])
        else one
        for one in random.sample(rows, len(rows))
    ]
    assert {row.id for row in pairs(mixed, limit, seed=seed).rows} == {row.id for row in drawn}


def test_another_seed_draws_other_pairs() -> None:
    rows = [voted(list("abcdef"), [1, 2, 3, 4, 5, 6], f"q{number} ?") for number in range(10)]
    draws = {frozenset(row.id for row in pairs(rows, 2, seed=seed).rows) for seed in range(4)}
    assert len(draws) == 4 and all(len(draw) == 20 for draw in draws)
    assert pairs(rows, 2).dropped == {"not_drawn": 130}


def test_the_stage_writes_them_with_their_counts(tmp_path: Path) -> None:
    labels_stage.run(tmp_path, readers=[pairs(read(tmp_path / "f.jsonl", QUESTION).rows, 1)])
    (row,) = read_rows(tmp_path, Label)
    assert (row.b, row.p_a) == ("no .", 1.0)
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert counts["sources"] == {"votes": 1} and counts["dropped"] == {"equal_votes": 1, "not_drawn": 1}
