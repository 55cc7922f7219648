from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from cai_lightning.constitution.feedback import (
    Order,
    both_orders,
    comparison_query,
    few_shot_prefix,
    fixed,
    label,
    probability,
    random_order,
)
from cai_lightning.constitution.principles import ComparisonExample, Constitution, Principle
from cai_lightning.text.backends import Query
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Comparison, Label, Prompt

TEMPLATE = "\n\nConsider:{conversation}\n\n{principle}\n(A) {a}\n(B) {b}\n\nThe answer is:"


def constitution(principles: int, shots: int) -> Constitution:
    return Constitution(
        "test",
        tuple(Principle(f"c{i}", None, None, f"Choose by rule {i}.") for i in range(principles)),
        (),
        tuple(ComparisonExample(human(f"q{i}"), f"good{i}", f"bad{i}") for i in range(shots)),
        TEMPLATE,
    )


def comparison(id: str, a: str, b: str) -> Comparison:
    prompt = Prompt(id=f"p-{id}", dialogue=human("q"), source="s", kind="red_team", cluster=id)
    return Comparison(id=id, prompt=prompt, a=a, b=b, source="pairs", model="m", temperature=1.0, seed=0)


class Judge:
    """Prefers the reply of greater worth by so many nats, and slot A by `bias` nats."""

    def __init__(self, worth: Callable[[str], float], bias: float) -> None:
        self.worth, self.bias = worth, bias
        self.texts: list[str] = []

    def score(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        self.texts += [query.text for query in queries]
        done: list[tuple[float, ...]] = []
        for query in queries:
            assert query.continuations == (" (A)", " (B)")
            shown = query.text.rsplit("\n(A) ", 1)[1].removesuffix("\n\nThe answer is:")
            a, b = shown.split("\n(B) ")
            done.append((self.worth(a) + self.bias - 7, self.worth(b) - 7))
        return done


def labels(
    judge: Judge,
    rows: Sequence[Comparison],
    order: Order,
    *,
    clamp: tuple[float, float] | None = None,
    hard: bool = False,
    shots: int = 0,
) -> list[Label]:
    return label(
        judge,
        rows,
        constitution(4, shots),
        order=order,
        clamp=clamp,
        hard=hard,
        seed=3,
        weight=0.5,
        model="judge",
    )


def test_the_question_is_the_filled_template_braces_and_blank_lines_kept() -> None:
    principle = Principle("c", None, None, "Choose {well}.")
    text = comparison_query(TEMPLATE, human("{conversation} {0}"), principle, "{b}\n\n[[x]]", "second")
    assert text == (
        "\n\nConsider:\n\nHuman: {conversation} {0}\n\nChoose {well}.\n(A) {b}\n\n[[x]]\n(B) second\n\nThe answer is:"
    )


def test_both_orders_recover_the_worth_under_any_slot_bias() -> None:
    rows = [comparison("x", "aaaa", "aa"), comparison("y", "a", "aaa")]
    for bias in (-3.0, 0.0, 2.5):
        done = labels(Judge(len, bias), rows, both_orders)
        # a worth 4 against 2 and 1 against 3: log-odds 2 and -2, whatever the bias
        assert [row.p_a for row in done] == pytest.approx([0.880797077978, 0.119202922022], abs=1e-12)
        assert [(row.logit_ab, row.logit_ba) for row in done] == [(2 + bias, 2 - bias), (-2 + bias, -2 - bias)]


def test_one_order_keeps_the_bias_and_says_which_order() -> None:
    (row,) = labels(Judge(len, 5.0), [comparison("x", "a", "aaa")], fixed)
    assert (row.logit_ab, row.logit_ba) == (3.0, None)
    assert row.p_a == pytest.approx(0.952574126822, abs=1e-12)


def test_random_order_asks_once_and_halves_the_rows() -> None:
    rows = [comparison(f"x{i}", "aa", "a") for i in range(400)]
    done = labels(Judge(len, 0.0), rows, random_order)
    assert all((row.logit_ab is None) != (row.logit_ba is None) for row in done)
    # 5 standard errors of a fair coin
    assert abs(sum(row.logit_ab is None for row in done) - 200) < 50
    assert {row.logit_ab or row.logit_ba for row in done} == {1.0}


def test_hard_labels_are_votes_and_disagreement_is_a_tie() -> None:
    rows = [comparison("x", "aaa", "a"), comparison("y", "a", "aaa"), comparison("z", "aa", "aa")]
    assert [row.p_a for row in labels(Judge(len, 0.0), rows, both_orders, hard=True)] == [1.0, 0.0, 0.5]
    assert [row.p_a for row in labels(Judge(len, 9.0), rows, both_orders, hard=True)] == [0.5, 0.5, 0.5]
    assert [row.p_a for row in labels(Judge(len, 9.0), rows, fixed, hard=True)] == [1.0, 1.0, 1.0]


def test_the_clamp_comes_last() -> None:
    rows = [comparison("x", "aaaaaa", "a"), comparison("y", "a", "aaaaaa"), comparison("z", "a", "a")]
    for hard in (False, True):
        done = labels(Judge(len, 0.0), rows, both_orders, clamp=(0.4, 0.6), hard=hard)
        assert [row.p_a for row in done] == [0.6, 0.4, 0.5]
    # after the mean over both orders: single orders clamped first would give .5 here
    (row,) = labels(Judge(len, 4.0), [comparison("x", "aa", "a")], both_orders, clamp=(0.2, 0.8))
    assert row.p_a == pytest.approx(0.731058578630, abs=1e-12)


@pytest.mark.parametrize("clamp", [(0.6, 0.4), (-0.1, 1.0), (0.0, 1.5)])
def test_a_clamp_that_is_no_range_is_refused(clamp: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="clamp: is"):
        labels(Judge(len, 0.0), [], fixed, clamp=clamp)


def test_probability_at_the_ends_does_not_overflow() -> None:
    assert probability([1e4], clamp=None, hard=False) == 1.0
    assert probability([-1e4], clamp=None, hard=False) == 0.0


@pytest.mark.parametrize("worth", [math.nan, -math.inf])
def test_an_impossible_score_names_its_row(worth: float) -> None:
    with pytest.raises(ValueError, match="comparison bad: the letters"):
        labels(Judge(lambda _: worth, 0.0), [comparison("bad", "a", "b")], fixed)


def test_labels_follow_their_ids_through_any_order_and_chunking() -> None:
    rows = [comparison(f"x{i}", "a" * (i % 7), "b" * (i % 5)) for i in range(40)]
    whole = {row.id: row for row in labels(Judge(len, 1.0), rows, random_order, shots=3)}
    assert {row.id: row for row in labels(Judge(len, 1.0), rows[::-1], random_order, shots=3)} == whole
    parts = [labels(Judge(len, 1.0), rows[i : i + 7], random_order, shots=3) for i in range(0, 40, 7)]
    assert {row.id: row for part in parts for row in part} == whole
    assert len({row.principle for row in whole.values()}) == 4


def test_swapping_a_and_b_turns_the_label_round() -> None:
    (one,) = labels(Judge(len, 1.5), [comparison("x", "aaa", "b")], both_orders)
    (two,) = labels(Judge(len, 1.5), [comparison("x", "b", "aaa")], both_orders)
    assert one.p_a + two.p_a == pytest.approx(1.0, abs=1e-12)
    assert (one.logit_ab, one.logit_ba) == (-two.logit_ba, -two.logit_ab)  # type: ignore[operator]


def test_provenance() -> None:
    (row,) = labels(Judge(len, 0.0), [comparison("x", "a", "b")], fixed)
    assert (row.id, row.prompt.id, row.a, row.b) == ("x", "p-x", "a", "b")
    assert (row.model, row.source, row.weight) == ("judge", "pairs", 0.5)
    used = next(p for p in constitution(4, 0).principles if p.id == row.principle)
    assert row.principle_hash == used.hash


def test_the_prefix_is_the_same_for_all_queries_and_comes_first() -> None:
    judge = Judge(len, 0.0)
    labels(judge, [comparison("x", "a", "b"), comparison("y", "c", "d")], both_orders, shots=3)
    prefix = few_shot_prefix(constitution(4, 3), seed=3)
    assert len(judge.texts) == 4
    assert all(text.startswith(prefix + "\n\nConsider:\n\nHuman: q\n\nChoose") for text in judge.texts)


def test_examples_are_solved_with_balanced_letters_and_principles_of_their_own() -> None:
    answers, rules = set(), set()
    for seed in range(20):
        prefix = few_shot_prefix(constitution(4, 5), seed=seed)
        shots = prefix.split("\n\nConsider:")[1:]
        for i, shot in enumerate(shots):
            better = " (A)" if f"\n(A) good{i}\n(B) bad{i}\n" in shot else " (B)"
            assert better == " (A)" or f"\n(A) bad{i}\n(B) good{i}\n" in shot
            assert shot.endswith("\n\nThe answer is:" + better)
        answers.add(tuple(shot[-2] for shot in shots))
        assert sorted(sum(shot[-2] == letter for shot in shots) for letter in "AB") == [2, 3]
        rules.add(tuple(shot.split("Choose by rule ")[1][0] for shot in shots))
    assert len(answers) > 8
    assert len(rules) > 15 and any(len(set(rule)) > 2 for rule in rules)
