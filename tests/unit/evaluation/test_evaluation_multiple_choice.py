from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from cai_lightning.data.questions import Question
from cai_lightning.evaluation.multiple_choice import evaluate
from cai_lightning.text.backends import Query


def question(id: str, *options: str, gold: int = 0, cluster: str = "") -> Question:
    return Question(id, "\n\nHuman: q\n\nWhich?", options, "\nThe answer is:", gold, cluster or id)


class Judge:
    """Scores a letter by its option's worth and its slot's bias."""

    def __init__(self, worth: Callable[[str], float], bias: Sequence[float]) -> None:
        self.worth, self.bias = worth, bias

    def score(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        done = []
        for query in queries:
            lines = query.text.split("\n")
            options = [line.partition(") ")[2] for line in lines if line.startswith(" (")]
            assert [line[:4] for line in lines if line.startswith(" (")] == list(query.continuations)
            done.append(tuple(self.worth(option) + bias for option, bias in zip(options, self.bias, strict=False)))
        return done


def test_a_biased_judge_with_knowledge_is_right_and_its_bias_is_found() -> None:
    questions = [question(f"x{i}", "aaa", "a", gold=0) for i in range(3)]
    questions += [question(f"y{i}", "a", "aaa", gold=1) for i in range(3)]
    result = evaluate(Judge(len, (5.0, 0.0)), questions, resamples=50, seed=0)
    assert result["accuracy"] == 1.0
    assert result["first_order_accuracy"] == 0.5
    assert result["position_bias"] == 5.0
    assert (result["n"], result["clusters"]) == (6, 6)
    # all right on 6 of 6: Wilson's interval by hand, n / (n + z^2) = 6 / 9.8415
    assert result["low"] == pytest.approx(0.60967, abs=1e-5)
    assert result["high"] == 1.0


def test_a_judge_of_slots_only_gets_chance_and_not_the_file_s_letter_balance() -> None:
    questions = [question(f"x{i}", "aa", "bb", gold=0) for i in range(8)]
    result = evaluate(Judge(len, (1.0, 0.0)), questions, resamples=50, seed=0)
    assert result["first_order_accuracy"] == 1.0
    assert result["accuracy"] == 0.5


def test_nine_options_with_a_sloping_bias() -> None:
    options = ["a" * n for n in (1, 2, 9, 3, 4, 5, 6, 7, 8)]
    bias = [4.0 - n for n in range(9)]
    questions = [question("x", *options, gold=2), question("y", *options, gold=3)]
    result = evaluate(Judge(len, bias), questions, resamples=50, seed=0)
    assert result["accuracy"] == 0.5
    assert result["position_bias"] == 8.0


def test_the_interval_is_that_of_whole_conversations() -> None:
    # 40 conversations of 10 equal rows: the standard error of the mean is that of 40 coins, .079, not of 400, .025
    questions = [question(f"x{c}-{i}", "aa", "a", gold=c % 2, cluster=f"c{c}") for c in range(40) for i in range(10)]
    result = evaluate(Judge(len, (0.0, 0.0)), questions, resamples=4000, seed=1)
    assert result["accuracy"] == 0.5
    assert (result["n"], result["clusters"]) == (400, 40)
    width = result["high"] - result["low"]
    assert width == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 40), rel=0.1)


def test_conversations_of_unequal_size_weigh_by_their_rows() -> None:
    questions = [question(f"x{i}", "aa", "a", cluster="big") for i in range(9)] + [question("y", "a", "aa")]
    result = evaluate(Judge(len, (0.0, 0.0)), questions, resamples=400, seed=1)
    assert result["accuracy"] == 0.9
    assert (result["low"], result["high"]) == (0.0, 1.0)


def test_the_order_of_rows_does_not_matter_and_the_seed_does() -> None:
    questions = [question(f"x{i}", "a" * (1 + i % 3), "aa", cluster=f"c{i % 7}") for i in range(30)]
    judge = Judge(len, (0.25, 0.0))
    one = evaluate(judge, questions, resamples=200, seed=0)
    assert evaluate(judge, questions[::-1], resamples=200, seed=0) == pytest.approx(one, abs=1e-12)
    assert evaluate(judge, questions, resamples=200, seed=1)["low"] != one["low"]


def test_no_questions_and_impossible_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="no questions"):
        evaluate(Judge(len, (0.0, 0.0)), [], resamples=10, seed=0)
    with pytest.raises(ValueError, match="question x: letters scored"):
        evaluate(Judge(lambda _: math.nan, (0.0, 0.0)), [question("x", "a", "b")], resamples=10, seed=0)
