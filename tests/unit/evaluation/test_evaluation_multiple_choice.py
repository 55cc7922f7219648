from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from cai_lightning.constitution.styles import text, turns
from cai_lightning.data.questions import Question
from cai_lightning.evaluation.asking import letters, reasoned
from cai_lightning.evaluation.multiple_choice import evaluate
from cai_lightning.text.backends import Completion, Query, Request, Sampling
from cai_lightning.text.dialogue import Message


def asked(judge: Judge, questions: Sequence[Question], **settings: int):  # type: ignore[no-untyped-def]
    return evaluate(letters(judge, style=text, few_shots=[], solved=[]), questions, **settings)


def question(id: str, *options: str, gold: int = 0, cluster: str = "") -> Question:
    return Question(id, "", "\n\nHuman: q", "Which?", options, "\nThe answer is:", gold, cluster or id)


class Judge:
    """Scores a letter by its option's worth and its slot's bias."""

    def __init__(self, worth: Callable[[str], float], bias: Sequence[float]) -> None:
        self.worth, self.bias = worth, bias

    def score(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        done = []
        for query in queries:
            lines = str(query.prompt).split("\n")
            options = [line.partition(") ")[2] for line in lines if line.startswith(" (")]
            assert [line[:4] for line in lines if line.startswith(" (")] == list(query.continuations)
            done.append(tuple(self.worth(option) + bias for option, bias in zip(options, self.bias, strict=False)))
        return done


def test_a_biased_judge_with_knowledge_is_right_and_its_bias_is_found() -> None:
    questions = [question(f"x{i}", "aaa", "a", gold=0) for i in range(3)]
    questions += [question(f"y{i}", "a", "aaa", gold=1) for i in range(3)]
    result = asked(Judge(len, (5.0, 0.0)), questions, resamples=50, seed=0)
    assert result["accuracy"] == 1.0
    assert result["first_order_accuracy"] == 0.5
    assert result["position_bias"] == 5.0
    assert (result["n"], result["clusters"]) == (6, 6)
    # all right on 6 of 6: Wilson's interval by hand, n / (n + z^2) = 6 / 9.8415
    assert result["low"] == pytest.approx(0.60967, abs=1e-5)
    assert result["high"] == 1.0


def test_a_judge_of_slots_only_gets_chance_and_not_the_file_s_letter_balance() -> None:
    questions = [question(f"x{i}", "aa", "bb", gold=0) for i in range(8)]
    result = asked(Judge(len, (1.0, 0.0)), questions, resamples=50, seed=0)
    assert result["first_order_accuracy"] == 1.0
    assert result["accuracy"] == 0.5


def test_nine_options_with_a_sloping_bias() -> None:
    options = ["a" * n for n in (1, 2, 9, 3, 4, 5, 6, 7, 8)]
    bias = [4.0 - n for n in range(9)]
    questions = [question("x", *options, gold=2), question("y", *options, gold=3)]
    result = asked(Judge(len, bias), questions, resamples=50, seed=0)
    assert result["accuracy"] == 0.5
    assert result["position_bias"] == 8.0


def test_the_interval_is_that_of_whole_conversations() -> None:
    # 40 conversations of 10 equal rows: the standard error of the mean is that of 40 coins, .079, not of 400, .025
    questions = [question(f"x{c}-{i}", "aa", "a", gold=c % 2, cluster=f"c{c}") for c in range(40) for i in range(10)]
    result = asked(Judge(len, (0.0, 0.0)), questions, resamples=4000, seed=1)
    assert result["accuracy"] == 0.5
    assert (result["n"], result["clusters"]) == (400, 40)
    width = result["high"] - result["low"]
    assert width == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 40), rel=0.1)


def test_conversations_of_unequal_size_weigh_by_their_rows() -> None:
    questions = [question(f"x{i}", "aa", "a", cluster="big") for i in range(9)] + [question("y", "a", "aa")]
    result = asked(Judge(len, (0.0, 0.0)), questions, resamples=400, seed=1)
    assert result["accuracy"] == 0.9
    assert (result["low"], result["high"]) == (0.0, 1.0)


def test_the_order_of_rows_does_not_matter_and_the_seed_does() -> None:
    questions = [question(f"x{i}", "a" * (1 + i % 3), "aa", cluster=f"c{i % 7}") for i in range(30)]
    judge = Judge(len, (0.25, 0.0))
    one = asked(judge, questions, resamples=200, seed=0)
    other = asked(judge, questions[::-1], resamples=200, seed=0)
    for key in ("accuracy", "low", "high", "n", "clusters", "first_order_accuracy", "position_bias"):
        assert other[key] == pytest.approx(one[key], abs=1e-12)
    assert asked(judge, questions, resamples=200, seed=1)["low"] != one["low"]


def test_no_questions_and_impossible_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="no questions"):
        asked(Judge(len, (0.0, 0.0)), [], resamples=10, seed=0)
    with pytest.raises(ValueError, match="question x: letters scored"):
        asked(Judge(lambda _: math.nan, (0.0, 0.0)), [question("x", "a", "b")], resamples=10, seed=0)


def test_the_baselines_read_no_conversation_and_classes_are_named_by_their_option() -> None:
    kinds = ("theft", "abuse", "other words")
    questions = [question(f"x{i}", *kinds, gold=gold) for i, gold in enumerate([0, 2, 2, 1, 2])]
    found = asked(Judge(len, (0.0, 0.0, 0.0)), questions, resamples=20, seed=0)  # always the longest option
    assert (found["always_first"], found["majority"], found["accuracy"]) == (0.2, 0.6, 0.6)
    assert found["classes"] == {
        "theft": {"accuracy": 0, "n": 1},
        "abuse": {"accuracy": 0, "n": 1},
        "other words": {"accuracy": 1, "n": 3},
    }


def test_options_that_differ_by_question_have_no_classes() -> None:
    questions = [question("x", "a", "bb", gold=1), question("y", "c", "d")]
    found = asked(Judge(len, (0.0, 0.0)), questions, resamples=20, seed=0)
    assert found["majority"] is None and found["classes"] == {}


class Seeing:
    """Remembers what it was asked, and prefers nothing."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def score(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        self.seen += [query.prompt for query in queries]
        return [(0.0, 0.0)] * len(queries)


def test_examples_stand_before_every_question_in_both_orders() -> None:
    model, one, other = Seeing(), question("x", "a", "b"), question("y", "c", "d", gold=1)
    shown = "\n\nHow?\n\nThe answer is: (A)"
    evaluate(letters(model, style=text, few_shots=[shown], solved=[other]), [one], resamples=5, seed=0)
    front = shown + other.prompt + " (B)"
    assert model.seen == [front + one.prompt, front + one.swapped().prompt]


def test_a_chat_model_is_asked_in_turns() -> None:
    model, one, other = Seeing(), question("x", "a", "b"), question("y", "c", "d", gold=1)
    style = partial(turns, system=None)
    evaluate(letters(model, style=style, few_shots=[], solved=[other]), [one], resamples=5, seed=0)
    # the question's own "Human:" stands inside the turn, for it is part of what is asked about
    assert model.seen[0] == (
        Message("human", "q\n\nWhich?\n (A) c\n (B) d"),
        Message("assistant", "The answer is: (B)"),
        Message("human", "q\n\nWhich?\n (A) a\n (B) b"),
        Message("assistant", "The answer is:"),
    )


def test_any_way_of_asking_is_scored_alike() -> None:
    def first_words(questions: Sequence[Question]) -> list[tuple[float, ...]]:
        return [tuple(float(option == "yes") for option in one.options) for one in questions]

    found = evaluate(first_words, [question("x", "yes", "no"), question("y", "no", "yes")], resamples=5, seed=0)
    assert found["accuracy"] == 0.5


class Thinker:
    """Thinks of the letter of the option "yes", and says what it has thought; the third thought of all is wrong."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.queries: list[Query] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        assert (sampling.temperature, sampling.max_new_tokens, sampling.stop) == (1.0, 7, ("\n\nHuman:",))
        self.requests += requests
        right = [" (A)" if " (A) yes" in str(request.prompt) else " (B)" for request in requests]
        right[2] = " (A)" if right[2] == " (B)" else " (B)"
        return [Completion(f"it is{letter} ", 1, 1, "stop") for letter in right]

    def score(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        self.queries += queries
        said = [str(query.prompt).rpartition("it is")[2][:4] for query in queries]
        return [tuple(0.0 if letter == thought else -1000.0 for letter in (" (A)", " (B)")) for thought in said]


def test_thoughts_stand_between_question_and_letter_and_their_probabilities_are_averaged() -> None:
    model = Thinker()
    ask = reasoned(
        model,
        style=text,
        few_shots=["Examples.\nThink: well\nSo: (A)"],
        solved=[],
        template="{conversation}|{principle}{lines}",
        opening="\nThink:",
        short=True,
        answer="\nSo:",
        samples=2,
        temperature=1.0,
        max_new_tokens=7,
        stop=["\n\nHuman:"],
        seed=0,
    )
    one = question("x", "yes", "no")
    scores = ask([one, one.swapped()])
    assert str(model.queries[0].prompt) == (
        "Examples.\nThink: well\nSo: (A)\n\nH: q|Which?\n (A) yes\n (B) no\nThink: it is (A)\nSo:"
    )
    assert model.queries[0].continuations == one.letters
    assert len({request.row for request in model.requests}) == 4
    assert scores[0] == pytest.approx((0.0, -1000.0))  # far beyond what a probability could hold
    assert scores[1] == pytest.approx((math.log(0.5), math.log(0.5)))  # one thought of two was wrong
