from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from cai_lightning.constitution.feedback import (
    Thinking,
    label,
    mean_log_odds,
    mean_probability,
    probability,
)
from cai_lightning.constitution.principles import ComparisonExample, Constitution, Principle
from cai_lightning.constitution.questions import (
    Asking,
    FewShotDraw,
    Order,
    Pick,
    asking,
    averaged,
    both_orders,
    drawn,
    fixed,
    per_label,
    per_run,
    random_order,
)
from cai_lightning.constitution.reasoning import Reasoning
from cai_lightning.constitution.styles import Style, text, turns
from cai_lightning.text.backends import Completion, Prompt, Query, Request, Sampling
from cai_lightning.text.dialogue import Message, human
from cai_lightning.text.records import Comparison, Label
from cai_lightning.text.records import Prompt as PromptRow

TEMPLATE = "\n\nConsider:{conversation}\n\n{principle}\n(A) {a}\n(B) {b}\n\nThe answer is:"


def constitution(principles: int, shots: int) -> Constitution:
    return Constitution(
        "test",
        tuple(Principle(f"c{i}", None, None, f"Choose by rule {i}.") for i in range(principles)),
        (),
        tuple(ComparisonExample(human(f"q{i}"), f"good{i}", f"bad{i}") for i in range(shots)),
        TEMPLATE,
        Reasoning(
            TEMPLATE.removesuffix("\n\nThe answer is:"),
            "\n\nHuman:",
            "\n\nAssistant:",
            "\n\nThoughts:",
            "\n\nThe answer is:",
            ("\n\nThe",),
            (),
        ),
    )


def comparison(id: str, a: str, b: str) -> Comparison:
    prompt = PromptRow(id=f"p-{id}", dialogue=human("q"), source="s", kind="red_team", cluster=id)
    return Comparison(id=id, prompt=prompt, a=a, b=b, source="pairs", model="m", temperature=1.0, seed=0)


class Judge:
    """Prefers the reply of greater worth by so many nats, and slot A by `bias` nats."""

    def __init__(self, worth: Callable[[str], float], bias: float) -> None:
        self.worth, self.bias = worth, bias
        self.texts: list[str] = []

    def score(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        done: list[tuple[float, ...]] = []
        for query in queries:
            assert isinstance(query.prompt, str)
            assert query.continuations == (" (A)", " (B)")
            self.texts.append(query.prompt)
            shown = query.prompt.rsplit("\n(A) ", 1)[1].removesuffix("\n\nThe answer is:")
            a, b = shown.split("\n(B) ")
            done.append((self.worth(a) + self.bias - 7, self.worth(b) - 7))
        return done


def asks(
    order: Order,
    *,
    principles: int = 4,
    shots: int = 0,
    style: Style = text,
    pick: Pick = drawn,
    few_shot_draw: FewShotDraw = per_run,
    reasoning: bool = False,
    seed: int = 3,
) -> Asking:
    return asking(
        constitution(principles, shots),
        reasoning=reasoning,
        style=style,
        order=order,
        pick=pick,
        few_shot_draw=few_shot_draw,
        seed=seed,
    )


def labels(
    judge: Judge,
    rows: Sequence[Comparison],
    order: Order,
    *,
    clamp: tuple[float, float] | None = None,
    hard: bool = False,
    shots: int = 0,
    pick: Pick = drawn,
) -> list[Label]:
    asked = asks(order, shots=shots, pick=pick)
    return label(judge, rows, asked, thinking=None, clamp=clamp, hard=hard, weight=0.5, model="judge")


def test_the_question_is_the_filled_template_braces_and_blank_lines_kept() -> None:
    row = comparison("x", "{b}\n\n[[x]]", "second")
    (question,) = asks(fixed, principles=1).questions(row)
    assert question.prompt == (
        "\n\nConsider:\n\nHuman: q\n\nChoose by rule 0.\n(A) {b}\n\n[[x]]\n(B) second\n\nThe answer is:"
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
    for pool in (mean_log_odds, mean_probability):
        assert probability([1e4], pool=pool, clamp=None, hard=False) == 1.0
        assert probability([-1e4], pool=pool, clamp=None, hard=False) == pytest.approx(0.0, abs=1e-300)


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
    prefix = text(asks(fixed, shots=3).examples(""), ())
    assert len(judge.texts) == 4
    assert all(text.startswith(prefix + "\n\nConsider:\n\nHuman: q\n\nChoose") for text in judge.texts)


def test_examples_are_solved_with_balanced_letters_and_principles_of_their_own() -> None:
    answers, rules = set(), set()
    for seed in range(20):
        prefix = text(asks(fixed, shots=5, seed=seed).examples(""), ())
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


def test_letters_and_rules_of_the_examples_may_be_drawn_anew_for_every_label() -> None:
    rows = [comparison(f"x{i}", "a", "b") for i in range(20)]
    asked = asks(both_orders, shots=5, few_shot_draw=per_label)
    prefixes = set()
    for row in rows:
        one, other = asked.questions(row)
        assert one.examples == other.examples  # both orders are led by the same
        prefixes.add(text(one.examples, ()))
    assert len(prefixes) > 15
    assert {text(q.examples, ()) for row in rows for q in asks(both_orders, shots=5).questions(row)} == {
        text(asks(fixed, shots=5).examples(""), ())
    }


def test_averaging_over_principles_asks_each_once_and_takes_the_mean_log_odds() -> None:
    class Favourite(Judge):
        """Rule 0 speaks for the first slot by 6 nats, every other rule by 0."""

        def score(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
            return [(6.0 if "rule 0." in str(query.prompt) else 0.0, 0.0) for query in queries]

    (row,) = labels(Favourite(len, 0.0), [comparison("x", "a", "b")], fixed, pick=partial(averaged, count=3))
    assert row.principle is not None and len(set(row.principle.split("+"))) == 3
    assert sorted(row.logits) in ([0, 0, 6], [0, 0, 0])
    assert row.logit_ab == pytest.approx(sum(row.logits) / 3)
    whole = labels(Favourite(len, 0.0), [comparison("x", "a", "b")], fixed, pick=partial(averaged, count=4))[0]
    assert (sorted(whole.logits), whole.logit_ab) == ([0, 0, 0, 6], 1.5)
    with pytest.raises(ValueError, match=r"pick\.count: is 5, but the constitution has 4"):
        labels(Judge(len, 0.0), [comparison("x", "a", "b")], fixed, pick=partial(averaged, count=5))


def test_the_mass_of_the_letters_is_the_mean_probability_of_either() -> None:
    class Mute(Judge):
        def score(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
            return [(math.log(0.2), math.log(0.1 * (1 + n))) for n, _ in enumerate(queries)]

    (row,) = labels(Mute(len, 0.0), [comparison("x", "a", "b")], both_orders)
    # .2 + .1 and .2 + .2
    assert row.letter_mass == pytest.approx(0.35, abs=1e-12)


class Thinker(Judge):
    """Thinks by its turn, and is sure of the letter that the thought names."""

    def __init__(self, thoughts: Callable[[Request], str]) -> None:
        super().__init__(len, 0.0)
        self.thoughts = thoughts
        self.asked: list[tuple[Request, Sampling]] = []
        self.prompts: list[Prompt] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        self.asked += [(request, sampling) for request in requests]
        return [Completion(self.thoughts(request), 1, 1, "stop") for request in requests]

    def score(self, queries: Sequence[Query]) -> list[tuple[float, ...]]:
        self.prompts += [query.prompt for query in queries]
        return [(3.0, 0.0) if "say A" in str(query.prompt) else (0.0, 3.0) for query in queries]


def thought_labels(thinker: Thinker, rows: Sequence[Comparison], order: Order, samples: int, **changes: Any) -> Any:
    thinking = Thinking(thinker, samples, Sampling(1.0, 9, (), 3))
    style: Style = changes.pop("style", text)
    asked = asks(order, principles=1, style=style, reasoning=True)
    settings: dict[str, Any] = {"clamp": None, "hard": False, "weight": 1.0, "model": "m", **changes}
    return label(thinker, rows, asked, thinking=thinking, **settings)


def test_a_thought_stands_between_question_and_letter() -> None:
    thinker = Thinker(lambda _: "I say A.\n")
    (row,) = thought_labels(thinker, [comparison("x", "one", "two")], fixed, 1)
    (request, sampling), (prompt,) = thinker.asked[0], thinker.prompts
    asked = "\n\nConsider:\n\nHuman: q\n\nChoose by rule 0.\n(A) one\n(B) two\n\nThoughts:"
    assert (request.row, request.prompt) == ("x/thought/0/ab/0", asked)
    assert sampling == Sampling(1.0, 9, ("\n\nThe",), 3)
    assert prompt == asked + " I say A.\n\nThe answer is:"
    assert (row.thoughts, row.logits, row.logit_ab, row.logit_ba) == (("I say A.",), (3.0,), pytest.approx(3.0), None)


def test_probabilities_of_the_thoughts_are_averaged_and_then_clamped() -> None:
    # three of five thoughts for a: p = (3 sigmoid(3) + 2 sigmoid(-3)) / 5 = .590515
    thinker = Thinker(lambda request: "say A" if request.row[-1] in "034" else "say B")
    rows = [comparison("x", "one", "two")]
    (row,) = thought_labels(thinker, rows, fixed, 5)
    assert row.p_a == pytest.approx(0.5905148253645, abs=1e-12)
    assert row.logits == (3.0, -3.0, -3.0, 3.0, 3.0)
    assert thought_labels(thinker, rows, fixed, 5, clamp=(0.4, 0.55))[0].p_a == 0.55
    # the same thoughts in the other order speak against a: all cancels, where one sure thought more would not
    (both,) = thought_labels(thinker, rows, both_orders, 5)
    assert both.p_a == pytest.approx(0.5, abs=1e-12)
    assert both.logit_ab == pytest.approx(-both.logit_ba, abs=1e-12)
    assert {request.row for request, _ in thinker.asked} == {
        f"x/thought/0/{order}/{k}" for order in ("ab", "ba") for k in range(5)
    }


def test_thoughts_do_not_depend_on_the_company_of_a_row() -> None:
    thinker = Thinker(lambda request: f"say {'AB'[sum(map(ord, request.row)) % 2]} {request.row}")
    rows = [comparison(f"x{i}", "a", "b") for i in range(6)]
    whole = {row.id: row for row in thought_labels(thinker, rows, both_orders, 3)}
    for part in (rows[:2], rows[2:]):
        for row in thought_labels(thinker, part[::-1], both_orders, 3):
            assert row == whole[row.id]
    assert len({thought for row in whole.values() for thought in row.thoughts}) == 36


def test_the_mean_of_probabilities_is_not_moved_by_one_extreme_thought() -> None:
    assert mean_probability([40.0, -1.0, -1.0]) < 1  # p = (1 + .2689 + .2689) / 3 = .5126
    assert mean_log_odds([40.0, -1.0, -1.0]) > 12
    # log(.5126 / .4874)
    assert mean_probability([40.0, -1.0, -1.0]) == pytest.approx(0.0504, abs=2e-4)
    assert mean_probability([7.5]) == pytest.approx(7.5, abs=1e-12)


def test_in_a_chat_the_question_is_a_human_turn_and_the_assistant_s_turn_begins_with_the_last_paragraph() -> None:
    row = comparison("x", "one", "two")
    (question,) = asks(fixed, principles=1, shots=1, style=partial(turns, system="Judge.")).questions(row)
    query = question.query()
    assert isinstance(query.prompt, tuple)
    shown = [(turn.role, turn.content) for turn in query.prompt]
    asked = "Consider:\n\nHuman: q\n\nChoose by rule 0.\n(A) one\n(B) two"
    assert shown[0] == ("system", "Judge.")
    assert shown[1][0] == "human" and shown[1][1].startswith("Consider:\n\nHuman: q0\n\nChoose by rule 0.\n(A) ")
    assert shown[2] in [("assistant", "The answer is: (A)"), ("assistant", "The answer is: (B)")]
    assert shown[3:] == [("human", asked), ("assistant", "The answer is:")]
    assert query.continuations == (" (A)", " (B)")


def test_in_a_chat_a_thought_without_a_turn_of_its_own_goes_on_in_the_assistant_s() -> None:
    thinker = Thinker(lambda _: "say A")
    thought_labels(thinker, [comparison("x", "one", "two")], fixed, 1, style=partial(turns, system=None))
    asked = "Consider:\n\nHuman: q\n\nChoose by rule 0.\n(A) one\n(B) two"
    assert thinker.asked[0][0].prompt == (Message("human", asked), Message("assistant", "Thoughts:"))
    assert thinker.prompts == [
        (Message("human", asked), Message("assistant", "Thoughts: say A\n\nThe answer is:")),
    ]


def test_a_constitution_that_cannot_reason_says_so() -> None:
    mute = dataclasses.replace(constitution(1, 0), reasoning=None)
    with pytest.raises(ValueError, match="constitution test: has no `reasoning`"):
        asking(mute, reasoning=True, style=text, order=fixed, pick=drawn, few_shot_draw=per_run, seed=0)
