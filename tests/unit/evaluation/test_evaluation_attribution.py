import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from cai_lightning.evaluation.attribution import Views, dissents, effects, flips, from_log_odds, sides, swaps
from cai_lightning.evaluation.harm_categories import by_category, cells, truth
from cai_lightning.evaluation.pair_means import places
from cai_lightning.evaluation.pooling import Pool, mean_log_odds, mean_probability
from cai_lightning.evaluation.redundancy import redundancy
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Label, Prompt

GIVEN = {"resamples": 200, "seed": 0}
LOW, HIGH = math.log(1 / 4), math.log(4)  # probabilities .2 and .8


def pair(number: int, a: str = "a", b: str = "b") -> Label:
    name = f"p{number}"
    prompt = Prompt(id=name, dialogue=human(name), source="test", kind="red_team", cluster=name)
    empty: dict[str, Any] = dict.fromkeys(("logit_ab", "logit_ba", "principle", "principle_hash", "model"))
    return Label(id=name, prompt=prompt, a=a, b=b, p_a=0.5, source="test", weight=1.0, **empty)


def views(logits: Any, better: Any, pool: Pool = mean_probability) -> Views:
    rows = [pair(number) for number in range(len(logits))]
    sides_ = None if better is None else np.array(better, np.float64)
    return from_log_odds(rows, [0] * len(rows), np.array(logits, np.float64), sides_, pool)


def values(figures: list[dict[str, Any]]) -> list[float]:
    return [figure["value"] for figure in figures]


def test_effects_by_hand() -> None:
    # P(a) .8 .8 .2 of pair 0, whose better reply is a; .2 .8 .2 of pair 1, whose better reply is b
    found = views([[HIGH, HIGH, LOW], [LOW, HIGH, LOW]], [1, -1])
    kinds = effects(found, found.places(**GIVEN))
    # alone: (.8 + .8) / 2, (.8 + .2) / 2, (.2 + .8) / 2, less a half
    assert values(kinds["add_one"]) == pytest.approx([0.3, 0, 0])
    # the whole .6 and .6; without the first .5 and .5, without the second .5 and .8, without the third .8 and .5
    assert values(kinds["leave_one_out"]) == pytest.approx([0.1, -0.05, -0.05])
    # right with all on both; without the first undecided on both, without the others on one
    assert values(kinds["accuracy"]) == pytest.approx([0.5, 0.25, 0.25])
    swap = swaps(found, found.places(**GIVEN))
    assert swap is not None
    # one voice of three goes from a value of .8 to one of .5
    assert np.array(swap["value"]) == pytest.approx(np.array([[0, -0.1, -0.1], [0.1, 0, 0], [0.1, 0, 0]]))


def test_pairs_without_a_better_reply_count_in_no_effect_and_without_truth_the_whole_decides() -> None:
    one = views([[HIGH, LOW], [HIGH, HIGH], [LOW, LOW]], [1, 0, 0])
    assert values(effects(one, one.places(**GIVEN))["add_one"]) == pytest.approx([0.3, -0.3])
    other = views([[HIGH, LOW], [HIGH, HIGH], [LOW, LOW]], None)
    assert other.better.tolist() == [0, 1, -1]
    assert values(effects(other, other.places(**GIVEN))["add_one"]) == pytest.approx([0.3, 0.3])


@pytest.mark.parametrize("pool", [mean_probability, mean_log_odds])
def test_it_does_not_matter_which_reply_is_called_a_and_a_principle_like_the_whole_changes_nothing(pool: Pool) -> None:
    rng = np.random.default_rng(0)
    logits, better = rng.normal(size=(30, 4)), rng.choice([-1.0, 1.0], 30)
    one, other = views(logits, better, pool), views(-logits, -better, pool)
    at = one.places(**GIVEN)
    for kind, figures in effects(one, at).items():
        assert values(figures) == pytest.approx(values(effects(other, at)[kind]), abs=1e-12)
    same = views(np.repeat(logits[:, :1], 4, axis=1), better, pool)
    assert values(effects(same, at)["leave_one_out"]) == pytest.approx([0] * 4, abs=1e-12)


def test_the_mean_of_log_odds_is_the_sigmoid_of_a_mean() -> None:
    found = views([[1.0, -2.0, 4.0]], [1], mean_log_odds)
    assert found.whole[0] == pytest.approx(1 / (1 + math.exp(-1)))
    assert found.without[0] == pytest.approx([1 / (1 + math.exp(-x)) for x in (1.0, 2.5, -0.5)])
    assert found.alone is not None and found.alone[0, 1] == pytest.approx(1 / (1 + math.exp(2)))


def test_resamples_are_those_of_a_slow_loop() -> None:
    rng = np.random.default_rng(1)
    seeds, clusters = rng.integers(0, 3, 40).tolist(), [f"c{i}" for i in rng.integers(0, 8, 40)]
    figures, among = rng.normal(size=(40, 2)), rng.integers(0, 2, 40).astype(float)
    at = places(seeds, clusters, resamples=5, seed=0)
    rows = at.means(figures, among)
    names, drawn = sorted(set(clusters)), at.drawn
    weights = [{}, *({"cluster": dict(zip(names, row, strict=True))} for row in drawn.clusters)]
    weights += [{"seed": dict(zip(sorted(set(seeds)), row, strict=True))} for row in drawn.replicates]
    for row, weight in zip(rows, weights, strict=True):
        counted: Counter[str] = Counter()
        for figure, seed, cluster, is_in in zip(figures, seeds, clusters, among, strict=True):
            times = is_in * weight.get("cluster", {}).get(cluster, 1) * weight.get("seed", {}).get(seed, 1)
            counted["n"] += times
            counted["0"] += times * figure[0]
            counted["1"] += times * figure[1]
        assert row == pytest.approx([counted["0"] / counted["n"], counted["1"] / counted["n"]])


def test_what_all_principles_share_does_not_widen_the_interval_of_leaving_one_out() -> None:
    noise = np.random.default_rng(2).normal(scale=3, size=(60, 1))
    found = views(np.repeat(noise, 3, axis=1), [1.0] * 60)
    kinds = effects(found, found.places(**GIVEN))
    wide, narrow = kinds["add_one"][0], kinds["leave_one_out"][0]
    assert wide["high"] - wide["low"] > 0.1 and narrow["high"] - narrow["low"] < 1e-9
    assert wide["n"] == 60


def test_below_ten_clusters_there_is_no_interval() -> None:
    found = views([[1.0, 2.0]] * 9, [1.0] * 9)
    assert all(figure["low"] is None for figure in effects(found, found.places(**GIVEN))["add_one"])


def test_labels_that_change_sides_come_with_the_largest_change_first() -> None:
    # P(a) of the whole: .55, .65, .5 and .8; without the first .3, .5, .2 and .8
    p = np.array([[0.8, 0.3], [0.8, 0.5], [0.8, 0.2], [0.8, 0.8]])
    found = views(np.log(p / (1 - p)), [1, 1, -1, 0])
    assert [(one["prompt"], one["p_with"], one["p_without"]) for one in flips(found, 0, 5)] == [
        ("\n\nHuman: p0", pytest.approx(0.55), pytest.approx(0.3))
    ]
    assert [(one["better"], one["p_alone"]) for one in dissents(found, 1, 5)] == [("a", pytest.approx(0.3))]
    assert flips(found, 0, 0) == []
    assert sides(found) == {"left_out": [0.25, 0], "alone": [0, 0.25]}


def test_correlations_are_numpys_and_a_twin_makes_up_for_its_twin() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(50, 3))
    logits = np.concatenate([logits, logits[:, :1]], axis=1)
    found = views(logits, [1.0] * 50)
    same = redundancy(found, found.places(**GIVEN))
    assert same is not None
    assert np.array(same["matrix"]) == pytest.approx(np.corrcoef(logits.T))
    assert same["offset"]["value"][0][3] == pytest.approx(1)
    assert same["offset"]["value"][0][1] < 0.5
    assert (same["low"][0][3], same["high"][0][3]) == (pytest.approx(1), pytest.approx(1))


def harm(text: str) -> dict[str, int]:
    return dict(Counter(text.split()))


def world() -> list[Label]:
    """Thirty pairs each that differ in one of two categories, half with less of it in a."""
    texts = [(word, word) if k % 2 else (f"{word} {word}", word) for word in ("x", "y") for k in range(30)]
    return [pair(k, a if k % 4 < 2 else "", b if k % 4 >= 2 else "") for k, (a, b) in enumerate(texts)]


def followed(rows: list[Label], named: str, size: float) -> list[float]:
    """The log-odds of a by someone who wants less harm of what is named and nothing else."""
    totals = [sum(harm(row.b).get(n, 0) - harm(row.a).get(n, 0) for n in named) for row in rows]
    return [size * float(np.sign(total)) for total in totals]


def test_principles_that_are_followed_do_what_they_name_and_nothing_else() -> None:
    rows = world()
    logits = np.array([followed(rows, named, HIGH) for named in ("x", "y", "xy")]).T
    found = from_log_odds(rows, [0] * len(rows), logits, None, mean_probability)
    at = found.places(**GIVEN)
    table = cells(found, at, harm)
    assert table is not None
    shown = by_category(table, at)
    assert (shown["names"], shown["n"]) == (["x", "y"], [30, 30])
    assert np.array(shown["add_one"]["value"]) == pytest.approx(np.array([[0.3, 0], [0, 0.3], [0.3, 0.3]]))
    # the whole .7 in either category: without the first .65 and .8, without the third .65 and .65
    expected = np.array([[0.05, -0.1], [-0.1, 0.05], [0.05, 0.05]])
    assert np.array(shown["leave_one_out"]["value"]) == pytest.approx(expected)
    agreed = truth(table, at, [frozenset("x"), frozenset("y"), frozenset("xy")])
    assert agreed is not None
    # two values each, in the same cells
    for figure in (agreed["followed"], *agreed["rank_correlation"].values()):
        assert figure["value"] == pytest.approx(1) and figure["low"] == pytest.approx(1)
    assert truth(table, at, [frozenset("xy")] * 3) is None
    assert cells(found, at, lambda _: {"x": 1}) is None


def test_principles_that_all_want_the_same_do_not_agree_with_what_they_name() -> None:
    rows = world()
    noise = np.random.default_rng(4).normal(scale=0.3, size=(len(rows), 2))
    logits = np.array([followed(rows, "xy", HIGH)] * 2).T + noise
    found = from_log_odds(rows, [0] * len(rows), logits, None, mean_probability)
    at = found.places(**GIVEN)
    table = cells(found, at, harm)
    assert table is not None
    agreed = truth(table, at, [frozenset("x"), frozenset("y")])
    assert agreed is not None
    assert agreed["followed"]["value"] == pytest.approx(1)
    figure = agreed["rank_correlation"]["add_one"]
    assert figure["low"] < figure["value"] < figure["high"] and figure["low"] < 0.5
