from __future__ import annotations

import pytest

from cai_lightning.evaluation.surface import (
    Rules,
    describe,
    describe_chains,
    distinct_ratio,
    duplicate_share,
    repeats,
    similarity,
    within_correlation,
    within_sd,
    word_count,
)

RULES = Rules(short=4, boilerplate="valid", refusal="(?i)sorry", reason="because", gram=2, token=r"[\w']+")


def test_every_share_is_counted_by_hand() -> None:
    groups = [
        ["Sorry, no.", "Sorry, no.", "you are valid and dear to me", "a b c d"],
        ["sorry,  NO.", "Sorry, but not now because it is late", "x y z", "one two three four"],
    ]
    found = describe(groups, RULES)
    shares = {name: found[name]["value"] for name in ("short", "boilerplate", "refusal", "repeated", "short_canned")}
    assert shares == {"short": 0.5, "boilerplate": 0.125, "refusal": 0.5, "repeated": 0.375, "short_canned": 0.375}
    # of the refusing prompts: none of two explains, and one of two; their mean
    assert found["explained"]["value"] == 0.25
    assert found["n"] == 8 and found["short"]["n"] == 2
    assert found["duplicate_share"] == 1 / 8
    assert found["mean_words"] == (2 + 2 + 7 + 4 + 2 + 8 + 3 + 4) / 8


def test_where_nobody_refuses_no_explanation_rate_is_known() -> None:
    assert describe([["a b"], ["c d"]], RULES)["explained"] == {"value": None, "low": None, "high": None, "n": 0}
    with pytest.raises(ValueError, match="no replies"):
        describe([[]], RULES)


def test_evasion_by_prompt_has_a_wide_interval() -> None:
    # 100 replies, but all short on half of 10 prompts: the interval is that of 10 coins, not of 100
    groups = [["no"] * 10] * 5 + [["a b c d e f"] * 10] * 5
    found = describe(groups, RULES)["short"]
    assert found["value"] == 0.5 and found["n"] == 10
    assert found["high"] - found["low"] > 0.6


def test_distinct_ngrams_know_no_case_and_cross_no_text() -> None:
    # a b, b a, a b | b a: three distinct... (a b), (b a) of 4
    assert distinct_ratio(["A b a B.", "b a"], n=2, token=r"\w+") == 2 / 4
    assert distinct_ratio(["a", "b"], n=2, token=r"\w+") is None


def test_a_repeat_is_one_across_prompts() -> None:
    assert repeats(["x", "x", "y", "z", "Y "], "aaabb") == [False, False, True, False, True]
    assert duplicate_share(["x", "x", "y"]) == pytest.approx(1 / 3)


def test_spread_and_correlation_are_within_prompts() -> None:
    scores = [[0.0, 2.0], [10.0, 10.0], [5.0, 9.0]]
    assert within_sd(scores) == pytest.approx((1 + 0 + 2) / 3)
    groups = [["a", "a b"], ["a", "a b"], ["a b c", "a"]]
    assert within_correlation(scores, groups, size=word_count) == pytest.approx(0.0)  # +1 and -1; the middle has none
    assert within_correlation([[1.0, 1.0]], [["a", "b c"]], size=word_count) is None


def test_similarity_is_of_words_in_order() -> None:
    assert similarity("a b c d", "a b c d") == 1
    assert similarity("a b", "c d") == 0
    assert similarity("a b c", "a c") == pytest.approx(2 * 2 / 5)


def test_chains_are_described_step_by_step() -> None:
    found = describe_chains([["a b", "a b", "c"], ["a b c", "a c", "a c d"]])
    assert found["n"] == 2
    assert found["similarity"] == pytest.approx([(1 + 0.8) / 2, (0 + 0.8) / 2])
    assert found["unchanged"] == [1, 0]
    assert found["mean_chars"] == [4, 3, 3]
    for chains in ([], [["a"], ["a", "b"]]):
        with pytest.raises(ValueError, match="of one length"):
            describe_chains(chains)
