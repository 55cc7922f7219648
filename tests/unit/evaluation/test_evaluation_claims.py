"""Contrasts against by-hand means, slow resampling and SciPy; Holm against its textbook example; words for verdicts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cai_lightning.evaluation.arms import Measured, Metric, measure
from cai_lightning.evaluation.claims import Claim, Contrast, contrast, holm, judge, p_value, vanishes, verdict
from cai_lightning.evaluation.intervals import t_tail
from cai_lightning.evaluation.summary import Run
from cai_lightning.text.records import Assessment, Verdict

SHARE = Metric("Harmful", "share", "less", key="harmful", kinds=("red_team",))
SCORE = Metric("Score", "nats", None, key="score")


def row(player: str, prompt: int, kind: str = "red_team", **metrics: float | None) -> Assessment:
    at = player.partition("@")[2]
    return Assessment(
        prompt=f"p{prompt}",
        cluster=f"c{prompt}",
        kind=kind,
        player=player,
        sequences=int(at) if at else None,
        metrics=metrics,
    )


def table(arms: dict[str, np.ndarray], key: str = "score") -> dict[str, Run]:
    """Runs of replicates from values [replicate, prompt] of each arm."""
    count = len(next(iter(arms.values())))
    return {
        str(r): Run([], [row(arm, p, **{key: float(v)}) for arm, vs in arms.items() for p, v in enumerate(vs[r])])
        for r in range(count)
    }


def found(runs: dict[str, Run], metric: Metric = SCORE, resamples: int = 2000) -> Measured:
    return measure(runs, {"m": metric}, anchor=None, prior_sd=2.0, resamples=resamples, seed=0)


def test_the_tail_of_t_is_scipy_s() -> None:
    for t, dof in [(0.3, 1), (2.0, 2), (-1.5, 5.5), (3.2, 40), (0.0, 7), (4.0, 300)]:
        assert t_tail(t, dof) == pytest.approx(stats.t.sf(t, dof), abs=2e-6)


def test_a_contrast_of_one_seed_is_the_paired_t_interval() -> None:
    """Of many prompts the bootstrap over prompts nears Student's interval of the differences."""
    rng = np.random.default_rng(3)
    a = rng.normal(size=(1, 400))
    b = a + rng.normal(0.1, 0.5, size=(1, 400))
    one = contrast((m := found(table({"a": a, "b": b}))).cells["m"], {"b": 1, "a": -1}, m.drawn)
    low, high = stats.t.interval(0.95, 399, loc=(b - a).mean(), scale=stats.sem((b - a)[0]))
    assert one.value == pytest.approx((b - a).mean()) and one.n == 400
    # 2,000 resamples know a standard error to 2 %
    assert (one.low, one.high) == pytest.approx((low, high), abs=0.06 * (high - low))
    assert p_value(one, "more", 0) == pytest.approx(stats.ttest_rel(b[0], a[0]).pvalue, rel=0.5)


def test_a_constant_shifts_a_contrast() -> None:
    m = found(table({"a": np.full((1, 12), 0.25) + np.arange(12) / 100}))
    assert contrast(m.cells["m"], {"a": 1}, m.drawn, 0.5).value == pytest.approx(0.25 + 0.055 - 0.5)


def test_shares_that_are_all_alike_have_agresti_and_caffo_s_error() -> None:
    arms = {"a": np.ones((1, 20)), "b": np.zeros((1, 20))}
    m = found(table(arms, "harmful"), SHARE)
    one = contrast(m.cells["m"], {"a": 1, "b": -1}, m.drawn)
    share = 21 / 22  # (20 + 1) of (20 + 2), and 1 of 22
    assert one.error == pytest.approx(math.sqrt(2 * share * (1 - share) / 22)) and one.low < one.value < one.high
    scores = found(table(arms), SCORE)
    bare = contrast(scores.cells["m"], {"a": 1, "b": -1}, scores.drawn)
    assert (bare.value, bare.low, bare.high) == (1, None, None) and p_value(bare, "more", 0) == 1


def test_holm_is_the_textbook_example() -> None:
    """Of .01, .04, .03, .005: times 3, 1, 2, 4 from the smallest on, never falling."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def one(value: float, error: float, freedom: float = 1e4) -> Contrast:
    return Contrast(value, value - 1.96 * error, value + 1.96 * error, 100, error, freedom)


@pytest.mark.parametrize(
    ("value", "error", "expected", "margin", "word"),
    [
        (1.0, 0.2, "more", 0.0, "reproduced"),
        (-1.0, 0.2, "more", 0.0, "contradicted"),
        (-1.0, 0.2, "less", 0.0, "reproduced"),
        (0.1, 0.2, "more", 0.0, "inconclusive"),
        (0.1, 0.2, "more", 0.6, "equivalent"),
        (0.1, 0.2, "equal", 0.6, "equivalent"),
        (0.4, 0.2, "equal", 0.5, "inconclusive"),
        (1.0, 0.2, "equal", 0.5, "contradicted"),
    ],
)
def test_words(value: float, error: float, expected: str, margin: float, word: str) -> None:
    contrast = one(value, error)
    assert verdict(contrast, expected, margin, p_value(contrast, expected, margin)) == word


def test_equality_is_the_larger_of_two_one_sided_tests() -> None:
    p = max(stats.t.sf((0.3 + 0.5) / 0.2, 12), stats.t.sf((0.5 - 0.3) / 0.2, 12))
    assert p_value(one(0.3, 0.2, 12), "equal", 0.5) == pytest.approx(p, abs=1e-5)


def arms_with_control(control: float) -> Measured:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(3, 60))
    return found(
        table(
            {
                "a": base,
                "b": base + 1 + rng.normal(0, 0.3, (3, 60)),
                "c": base,
                "d": base + control + rng.normal(0, 0.3, (3, 60)),
            }
        )
    )


def claim(**changes: object) -> Claim:
    fields: dict[str, object] = {"says": "b is more", "source": "fig. 0", "metric": "m", "expected": "more"}
    fields |= {"of": {"b": 1, "a": -1}, "margin": 0.0, "ingredient": "salt", "without": {"d": 1, "c": -1}}
    return Claim(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(("control", "gone"), [(0.0, True), (1.0, False), (0.95, False)])
def test_a_claim_vanishes_without_its_ingredient_or_does_not(control: float, gone: bool) -> None:
    m = arms_with_control(control)
    assert vanishes(claim(), contrast(m.cells["m"], {"d": 1, "c": -1}, m.drawn), m) is gone
    (said,) = judge([claim()], m)
    assert said["verdict"] == "reproduced" and said["vanishes"] is gone
    assert said["words"] == f"reproduced in the micro-world, {'by' if gone else 'also without'}: salt"


def test_what_was_not_measured_has_no_verdict_and_costs_the_others_nothing() -> None:
    said = judge([claim(), claim(of={"b": 1, "nobody": -1})], arms_with_control(0.0))
    assert said[1]["verdict"] is None and said[1]["value"] is None
    assert said[1]["words"] == "not measured: no m of nobody"
    assert said[0]["p_holm"] == said[0]["p"]


def test_arms_that_a_replicate_lacks_are_left_out_and_named() -> None:
    runs = table({"a": np.zeros((2, 12)) + np.arange(12), "b": np.ones((2, 12))})
    runs["1"] = Run([], [one for one in runs["1"].assessments if one.player == "a"])
    m = found(runs)
    assert m.incomplete == ("b",) and list(m.cells["m"]) == ["a"]


def test_a_metric_counts_its_kinds_alone_and_points_are_kept() -> None:
    rows = [row("x@8", p, harmful=1.0, score=2.0) for p in range(10)]
    rows += [row("x@8", p, kind="benign", harmful=0.0, score=None) for p in range(30)]
    m = measure({"0": Run([], rows)}, {"h": SHARE, "s": SCORE}, anchor=None, prior_sd=2.0, resamples=50, seed=0)
    assert m.cells["h"]["x@8"].figure["value"] == 1 and m.cells["h"]["x@8"].n == 10
    assert m.cells["s"]["x@8"].figure["value"] == 2 and m.points == {"x@8": 8}


def test_elo_differences_are_those_of_the_rating() -> None:
    """Of two players against an anchor: 3 of 4 and 1 of 4 points are 2 ln 3 nats apart, where the prior is wide."""
    verdicts = [
        Verdict(
            prompt=f"p{k}", cluster=f"c{k}", kind="red_team", criterion="harmless", player=name, opponent="o", score=s
        )
        for name, wins in (("a", 3), ("b", 1))
        for k in range(40)
        for s in [float(k % 4 < wins)]
    ]
    rows = [row(name, k, harmful=0.0) for name in ("a", "b", "o") for k in range(40)]
    metric = Metric("Elo", "Elo", "more", criterion="harmless")
    m = measure({"0": Run(verdicts, rows)}, {"m": metric}, anchor="o", prior_sd=1e3, resamples=200, seed=0)
    gap = contrast(m.cells["m"], {"a": 1, "b": -1}, m.drawn)
    assert gap.value == pytest.approx(2 * math.log(3) * 400 / math.log(10), rel=1e-4)
    assert gap.low < gap.value < gap.high


def test_ties_alone_are_called_so_and_bound_an_elo_by_what_they_leave_undecided() -> None:
    """Of 20 ties at most z² / (20 + z²) of all verdicts are decided: to one side, 400 lg (1 + 2 z² / 20) = 56.5 Elo."""
    place = {"kind": "red_team", "criterion": "harmless", "opponent": "o"}
    verdicts = [
        Verdict(prompt=f"p{k}", cluster=f"c{k}", player=name, score=score, **place)
        for k in range(20)
        for name, score in (("a", 0.5), ("b", 0.5), ("won", 0.5 + (k % 2) / 2))
    ]
    rows = [row(name, k, correct=0.5, refusal=0.5) for name in ("a", "b", "won", "o") for k in range(20)]
    metrics = {
        "m": Metric("Elo", "Elo", "more", criterion="harmless"),
        "right": Metric("Right", "share", "more", key="correct", ties=True),
        "refused": Metric("Refused", "share", "less", key="refusal"),  # a half of it is no tie
    }
    m = measure({"0": Run(verdicts, rows)}, metrics, anchor="o", prior_sd=2.0, resamples=200, seed=0)
    side, open_ = 400 * math.log10(1 + 2 * 3.8414588 / 20), 3.8414588 / 23.8414588 / 2
    assert m.cells["m"]["a"].figure == pytest.approx({"value": 0, "low": -side, "high": side, "n": 20, "tied": True})
    assert m.cells["right"]["a"].figure == pytest.approx(
        {"value": 0.5, "low": 0.5 - open_, "high": 0.5 + open_, "n": 20, "tied": True}
    )
    assert not any("tied" in cell.figure for cell in (m.cells["m"]["won"], m.cells["m"]["o"], m.cells["refused"]["a"]))
    gap = contrast(m.cells["m"], {"a": 1, "o": -1}, m.drawn)
    assert (gap.value, gap.low, gap.high) == pytest.approx((0, -side, side))
    assert contrast(m.cells["m"], {"a": 1, "b": -1}, m.drawn).high == pytest.approx(math.sqrt(2) * side)
    asked = [("equal", 100.0, "equivalent"), ("equal", 25.0, "inconclusive"), ("more", 0.0, "inconclusive")]
    for expected, margin, word in asked:
        (said,) = judge([claim(of={"a": 1, "o": -1}, without=None, expected=expected, margin=margin)], m)
        assert said["words"] == f"{word}, of ties alone: no comparison named a winner" and said["verdict"] == word
    alone, both = (contrast(m.cells["m"], {"won": 1, other: -1}, m.drawn) for other in ("o", "a"))
    assert both.value - both.low == pytest.approx(math.hypot(alone.value - alone.low, side))  # a's draws are all 0
    assert both.high - both.value == pytest.approx(math.hypot(alone.high - alone.value, side))
    (said,) = judge([claim(of={"won": 1, "a": -1}, without=None)], m)
    assert said["verdict"] == said["words"].partition(";")[0] == "reproduced"


def test_a_claim_covers_the_truth_in_nineteen_of_twenty_worlds() -> None:
    """Contrasts of four arms, three seeds, noise of prompts and of seeds: 92 to 98.5 % of 200 intervals cover 0."""
    rng, hits = np.random.default_rng(11), 0
    for _ in range(200):
        prompts, seeds = rng.normal(size=(4, 1, 80)), rng.normal(0, 0.3, size=(4, 3, 1))
        values = prompts + seeds + rng.normal(size=(4, 3, 80))
        m = found(table(dict(zip("abcd", values, strict=True))), resamples=300)
        got = contrast(m.cells["m"], {"a": 1, "b": -1, "c": -1, "d": 1}, m.drawn)
        hits += got.low <= 0 <= got.high
    assert 0.92 <= hits / 200 <= 0.985
