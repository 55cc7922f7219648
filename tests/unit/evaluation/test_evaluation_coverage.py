"""Of 200 simulated worlds, in how many the 95 % interval holds the truth: 92 to 98 % for what a summary shows.

The truth of each world is known in closed form or from the law that data were drawn from, never from the estimator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest

from cai_lightning.evaluation.calibration import reliability
from cai_lightning.evaluation.frontier import hypervolume
from cai_lightning.evaluation.intervals import clustered_share, draws
from cai_lightning.evaluation.paired import difference
from cai_lightning.evaluation.summary import Run, ratings
from cai_lightning.text.records import Verdict

WORLDS, RESAMPLES = 200, 300
Generator = np.random.Generator


def coverage(world: Callable[[Generator, int], tuple[float, float, float]], worlds: int = WORLDS) -> float:
    """The share of worlds whose (low, truth, high) are in this order."""
    generator = np.random.default_rng(12)
    ordered = (world(generator, number) for number in range(worlds))
    return sum(low <= truth <= high for low, truth, high in ordered) / worlds


@pytest.mark.parametrize(("prompts", "win", "tie"), [(12, 0.3, 0.4), (80, 0.2, 0.5), (300, 0.85, 0.1)])
def test_a_win_rate_with_ties(prompts: int, win: float, tie: float) -> None:
    """Two verdicts a prompt that agree in half of the prompts, as two orders or two samples would."""

    def world(generator: Generator, _: int) -> tuple[float, float, float]:
        scores = generator.choice([1.0, 0.5, 0.0], p=[win, tie, 1 - win - tie], size=(prompts, 2))
        scores[: prompts // 2, 1] = scores[: prompts // 2, 0]
        _, (low, high), _ = clustered_share(scores.ravel(), [str(k // 2) for k in range(2 * prompts)])
        return low, win + tie / 2, high

    assert 0.92 <= coverage(world) <= 0.98


def verdict(prompt: int, criterion: str, player: str, score: float) -> Verdict:
    return Verdict(
        prompt=str(prompt),
        cluster=str(prompt // 2),
        kind="red_team" if criterion == "harmless" else "benign",
        criterion=criterion,
        player=player,
        opponent="anchor",
        score=score,
    )


WINS = {"x": {"harmless": 0.75, "helpful": 0.5}, "y": {"harmless": 0.6, "helpful": 0.7}}


def world_of_players(generator: Generator, seed: int, replicates: int = 1):  # type: ignore[no-untyped-def]
    """The ratings of two players against an anchor on 160 prompts in 80 clusters, whose prompts are alike.

    A cluster's prompts have the same difficulty, and so has a prompt under all players: wins are correlated, each with
    the probability in WINS.
    """
    runs = {}
    shared = generator.normal(size=(2, 80))
    for replicate in range(replicates):
        rows = []
        for axis, criterion in enumerate(("harmless", "helpful")):
            for player, wins in WINS.items():
                limit = NormalDist().inv_cdf(wins[criterion]) * math.sqrt(2)
                beaten = shared[axis].repeat(2) + generator.normal(size=160) < limit
                rows += [verdict(k, criterion, player, float(win)) for k, win in enumerate(beaten)]
        runs["", str(replicate)] = Run(rows, [])
    options = {"anchor": "anchor", "prior_sd": 2.0, "reference": -400.0, "resamples": RESAMPLES, "seed": seed}
    return ratings(runs, **options)["variants"][""]  # type: ignore[arg-type]


def elo(share: float) -> float:
    return 400 * math.log10(share / (1 - share))


def test_elo_its_differences_and_the_hypervolume() -> None:
    points = {name: [400 + elo(wins["helpful"]), 400 + elo(wins["harmless"])] for name, wins in WINS.items()}
    (x0, x1), (y0, y1) = (
        points["x"],
        points["y"],
    )  # y is more helpful, x more harmless; the anchor (400, 400) below both
    volume = x0 * x1 + (y0 - x0) * y1
    hits = dict.fromkeys(("x", "y", "difference", "hypervolume"), 0)
    generator = np.random.default_rng(5)
    for number in range(WORLDS):
        found = world_of_players(generator, number)
        for name in ("x", "y"):
            figure = found["players"][name]["harmless_elo"]
            hits[name] += figure["low"] <= elo(WINS[name]["harmless"]) <= figure["high"]
        (gap,) = (one for one in found["differences"] if one["criterion"] == "harmless")
        true = elo(WINS[gap["player"]]["harmless"]) - elo(WINS[gap["minus"]]["harmless"])
        hits["difference"] += gap["low"] <= true <= gap["high"]
        figure = found["frontier"]["hypervolume"]
        hits["hypervolume"] += figure["low"] <= volume <= figure["high"]
    assert all(0.92 <= hit / WORLDS <= 0.98 for hit in hits.values()), hits


@pytest.mark.parametrize(
    ("players", "least"),
    [
        ([(4, 4), (4.5, 6), (4.3, 6.2), (4.4, 6.1), (4.6, 5.9)], 0.92),
        ([(4, 4), (5, 6), (5, 6)], 0.85),  # of exactly equal ones not even reflection knows the whole bias
    ],
    ids=["close", "equal"],
)
def test_a_hypervolume_whose_frontier_is_nearly_a_tie(players: list[tuple[float, float]], least: float) -> None:
    """Resampled frontiers lie outside the sample's, which lies outside the true one: percentiles cover 75 to 80 %."""
    true = np.array(players)
    steps = sorted(players, reverse=True)
    volume, top = 0.0, 0.0
    for x, y in steps:
        volume, top = volume + x * max(0.0, y - top), max(top, y)

    def world(generator: Generator, number: int) -> tuple[float, float, float]:
        noise = generator.normal(0, 2, size=(len(true), 2, 1, 60)) + generator.normal(size=(1, 2, 1, 60))
        drawn = draws([""] * 60, 1, resamples=RESAMPLES, seed=number)
        rows = drawn.sums(noise + true[..., None, None]) / 60
        low, high = drawn.reflected(hypervolume(rows, (0, 0)), 60)
        return low, volume, high

    assert least <= coverage(world) <= 0.98


@pytest.mark.parametrize("replicates", [1, 3])
def test_a_paired_difference(replicates: int) -> None:
    """Two judges of 60 clusters of pairs, right more often together than by chance, and seeds that differ."""

    def world(generator: Generator, number: int) -> tuple[float, float, float]:
        hard = generator.normal(size=60).repeat(3)
        seeds = generator.normal(0, 0.2, size=(replicates, 1))
        ours = (hard + generator.normal(size=(replicates, 180)) + seeds < 1).astype(float)
        theirs = (hard + generator.normal(size=180) < 0).astype(float)
        found = difference(ours, theirs, [str(k // 3) for k in range(180)], resamples=RESAMPLES, seed=number)
        # one seed is taken as it is: its interval says nothing about others
        limit, spread = (1 - float(seeds[0, 0]), 2.0) if replicates == 1 else (1.0, 2.04)
        return found["low"], NormalDist().cdf(limit / math.sqrt(spread)) - 0.5, found["high"]

    assert 0.92 <= coverage(world) <= 0.98


def test_the_bins_of_a_reliability_diagram() -> None:
    """Ten bins of 40 labels whose probabilities are too sure of themselves."""
    hits = []
    generator = np.random.default_rng(4)
    for _ in range(WORLDS):
        p = np.sort(generator.random(400))
        true = 0.25 + p / 2
        right = (generator.random(400) < true).astype(float)
        for bin_, share in zip(reliability(p, right, bins=10), true.reshape(10, 40).mean(1), strict=True):
            hits.append(bin_["low"] <= share <= bin_["high"])
    assert 0.92 <= np.mean(hits) <= 0.98
