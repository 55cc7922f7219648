from __future__ import annotations

import numpy as np
import pytest

from cai_lightning.evaluation.bag_of_words import (
    Pair,
    Sparse,
    describe,
    differences,
    fit_bag_of_words,
    hits,
    logistic,
    shorter_hits,
    vocabulary,
)


def pair(a: str, b: str, p_a: float = 1.0, weight: float = 1.0, cluster: str = "") -> Pair:
    return Pair(a, b, p_a, weight, cluster or a + b)


def fit(pairs: list[Pair], l2: list[float], least: int = 1):  # type: ignore[no-untyped-def]
    return fit_bag_of_words(pairs, token=r"\w+", longest=2, least=least, l2=l2, folds=3)


def test_features_are_the_words_that_one_reply_alone_holds() -> None:
    bags = [({"a", "b", "a b"}, {"b", "c"}), ({"c"}, {"c"})]
    grams = vocabulary(bags, least=2)
    assert grams == {"b": 0, "c": 1}
    x = differences(bags, {"a": 0, "b": 1, "c": 2})
    assert x.times(np.array([1.0, 10.0, 100.0])).tolist() == [1 - 100, 0]
    assert x.transposed_times(np.array([2.0, 5.0])).tolist() == [2, 0, -2]


def test_the_fit_is_a_stationary_point_and_the_smallest_nearby() -> None:
    generator = np.random.default_rng(0)
    dense = generator.integers(-1, 2, size=(30, 8)).astype(np.float64)
    row, column = dense.nonzero()
    x = Sparse(row, column, dense[row, column], dense.shape)
    p, weight = generator.random(30), generator.random(30) + 0.5

    def objective(w: np.ndarray) -> float:
        logits = dense @ w
        return float(weight @ (-p * np.log(1 / (1 + np.exp(-logits))) - (1 - p) * np.log(1 / (1 + np.exp(logits))))) + (
            0.7 * float(w @ w) / 2
        )

    w = logistic(x, p, weight, l2=0.7)
    best = objective(w)
    for k in range(8):
        for step in (1e-3, -1e-3):
            assert objective(w + step * np.eye(8)[k]) > best
        slope = (objective(w + 1e-5 * np.eye(8)[k]) - objective(w - 1e-5 * np.eye(8)[k])) / 2e-5
        assert abs(slope) < 1e-6


def test_one_word_gets_the_log_odds_of_its_wins_as_the_penalty_vanishes() -> None:
    pairs = [pair("yes", "no", 1.0, cluster=str(i)) for i in range(3)] + [pair("yes", "no", 0.0, cluster="x")]
    model = fit(pairs, [1e-9])
    # the words of a and b share the log-odds ln 3
    assert model.log_odds([pair("yes", "no")])[0] == pytest.approx(np.log(3), abs=1e-6)
    assert model.log_odds([pair("unknown", "words")])[0] == 0
    shown = describe(model, shown=1)
    assert shown["features"] == 2 and list(shown["better"]) == ["yes"] and list(shown["worse"]) == ["no"]


def test_swapping_a_and_b_turns_the_answer_round_and_order_of_words_counts() -> None:
    pairs = [pair("not good", "good not", cluster=str(i)) for i in range(4)]
    model = fit(pairs, [1.0])
    one, two = model.log_odds([pair("not good", "good not"), pair("good not", "not good")])
    assert one == -two > 0


def test_cross_validation_prefers_a_strong_penalty_on_noise_and_a_weak_one_on_signal() -> None:
    generator = np.random.default_rng(1)
    words = [f"w{k}" for k in range(40)]

    def text() -> str:
        return " ".join(generator.choice(words, 6))

    noise = [pair(text(), text(), float(generator.integers(2)), cluster=str(i)) for i in range(60)]
    signal = [pair(text() + " good", text() + " bad", cluster=str(i)) for i in range(60)]
    assert fit(noise, [0.01, 1000.0]).l2 == 1000.0
    assert fit(signal, [0.01, 1000.0]).l2 == 0.01


def test_folds_keep_clusters_together() -> None:
    # each cluster has a word of its own that gives the answer away: split clusters would favour a weak penalty
    pairs = [pair(f"w{c}", f"v{c}", float(c % 2), cluster=str(c)) for c in range(9) for _ in range(4)]
    assert fit(pairs, [0.01, 1.0, 100.0], least=1).l2 == 0.01  # nothing shared: every strength predicts one half
    shared = [pair(f"w{c} x", f"v{c} y", float(c % 2), cluster=str(c)) for c in range(8) for _ in range(4)]
    assert fit(shared, [0.01, 100.0]).l2 == 100.0


def test_baselines_count_ties_as_half() -> None:
    pairs = [pair("a", "bb"), pair("aaa", "bb"), pair("aa", "bb"), pair("a", "bb", 0.0)]
    assert shorter_hits(pairs) == [1, 0, 0.5, 0]
    assert hits([1.0, -1.0, 0.0, -2.0], pairs) == [1, 0, 0.5, 1]


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ValueError, match="needs pairs"):
        fit([], [1.0])
