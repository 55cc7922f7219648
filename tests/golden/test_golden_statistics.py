"""Intervals, corrections, frontiers and ratings against statsmodels, choix and moocore: code that is not ours."""

from __future__ import annotations

from itertools import combinations

import choix
import moocore
import numpy as np
import pytest
from statsmodels.discrete.discrete_model import Logit
from statsmodels.genmod.families import Binomial, Poisson
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from cai_lightning.evaluation.claims import holm
from cai_lightning.evaluation.frontier import hypervolume, non_dominated
from cai_lightning.evaluation.intervals import draws, wilson
from cai_lightning.evaluation.length import logit
from cai_lightning.evaluation.rated import rate_axis
from cai_lightning.evaluation.ratings import ELO, strengths
from cai_lightning.evaluation.ties import Tables, davidson
from cai_lightning.text.records import Verdict


@pytest.mark.parametrize("n", [1, 9, 10, 57, 400])
def test_wilson_is_statsmodels(n: int) -> None:
    for successes in {0, 1, n // 3, n - 1, n}:
        theirs = proportion_confint(successes, n, alpha=0.05, method="wilson")
        assert wilson(successes, n) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("count", [2, 40])
def test_holm_is_statsmodels(count: int) -> None:
    values = np.random.default_rng(count).random(count) ** 3
    values[: count // 2] = values[0]  # ties
    theirs = multipletests(values, alpha=0.05, method="holm")
    np.testing.assert_allclose(holm(values.tolist()), theirs[1], atol=1e-12)
    assert [p <= 0.05 for p in holm(values.tolist())] == theirs[0].tolist()


def test_frontiers_are_moocore_s() -> None:
    generator = np.random.default_rng(0)
    points = generator.normal(0, 300, size=(50, 7, 2)).round(-1)  # rounded, so that some are equal on an axis
    points[:10, 1] = points[:10, 0]  # and some on both
    ours, free = hypervolume(points, (-400, -400)), non_dominated(points)
    for row, volume, kept in zip(points, ours, free, strict=True):
        assert volume == pytest.approx(moocore.hypervolume(row, ref=[-400, -400], maximise=True), abs=1e-6)
        np.testing.assert_array_equal(kept, moocore.is_nondominated(row, maximise=True, keep_weakly=True))


def tournament(seed: int, players: int = 4) -> list[Verdict]:
    """Verdicts of a random tournament on 120 prompts, a third of them ties, whose difficulty all pairs share."""
    generator = np.random.default_rng(seed)
    theta = generator.normal(size=players)
    rows = []
    for prompt in range(120):
        shift = generator.normal()
        for i, j in combinations(range(players), 2):
            wins = generator.random() < 1 / (1 + np.exp(theta[j] - theta[i] + shift))
            score = 0.5 if generator.random() < 1 / 3 else float(wins)
            name = f"p{prompt}"
            rows.append(
                Verdict(
                    prompt=name,
                    cluster=name,
                    kind="red_team",
                    criterion="harmless",
                    player=f"m{i}",
                    opponent=f"m{j}",
                    score=score,
                )
            )
    return rows


def players_logit(rows: list[Verdict]):  # type: ignore[no-untyped-def]
    """A binomial regression on player dummies, m0 left out, with a sandwich by prompt."""
    count = 1 + max(int(row.opponent[1:]) for row in rows)
    design = np.array([np.eye(count)[int(r.player[1:])] - np.eye(count)[int(r.opponent[1:])] for r in rows])[:, 1:]
    groups = np.unique([row.cluster for row in rows], return_inverse=True)[1]
    model = GLM([row.score for row in rows], design, family=Binomial())
    return model.fit(tol=1e-12, cov_type="cluster", cov_kwds={"groups": groups})


@pytest.mark.parametrize("seed", range(3))
def test_strengths_with_ties_are_those_of_choix_and_of_statsmodels(seed: int) -> None:
    rows = tournament(seed)
    place = [(int(row.player[1:]), int(row.opponent[1:]), row.score) for row in rows]
    pairs = sorted({(i, j) for i, j, _ in place})
    wins = np.array([sum(s for i, j, s in place if (i, j) == pair) for pair in pairs])
    games = np.array([sum((i, j) == pair for i, j, _ in place) for pair in pairs], dtype=float)
    ours = ELO * strengths(np.array(pairs), wins[None], games[None], players=4, prior_sd=1e6)[0]
    # a tie is a win for each side at half the weight: here all games twice
    twice = [pair for i, j, s in place for pair in [(i, j)] * round(2 * s) + [(j, i)] * round(2 - 2 * s)]
    theirs = choix.ilsr_pairwise(4, twice, max_iter=1000, tol=1e-12)
    np.testing.assert_allclose(ours, ELO * (theirs - theirs[0]), atol=1e-5)
    np.testing.assert_allclose(ours[1:], ELO * players_logit(rows).params, atol=1e-5)


def test_the_bootstrap_over_prompts_has_the_error_of_the_clustered_sandwich() -> None:
    rows = tournament(7)
    columns = {key: k for k, key in enumerate(sorted({(row.kind, row.cluster) for row in rows}))}
    drawn = draws([kind for kind, _ in columns], 1, resamples=4000, seed=0)
    rated = rate_axis([rows], columns, drawn, anchor="m0", prior_sd=1e6)
    theirs = players_logit(rows)
    assert rated.games.players == ("m0", "m1", "m2", "m3")
    np.testing.assert_allclose(rated.rows[1:, 1:].std(0), ELO * theirs.bse, rtol=0.05)  # 4,000 draws know it to 1 %
    naive = GLM(theirs.model.endog, theirs.model.exog, family=Binomial()).fit()
    assert np.all(
        np.abs(naive.bse / theirs.bse - 1) > 0.06
    )  # what it would be if verdicts of a prompt were independent


@pytest.mark.parametrize("seed", range(2))
def test_a_logistic_regression_and_its_clustered_errors_are_statsmodels(seed: int) -> None:
    """Intercept, length and order, on 300 verdicts with ties in 60 clusters."""
    generator = np.random.default_rng(seed)
    groups = np.sort(generator.integers(0, 60, 300))
    design = np.stack([np.ones(300), np.tanh(generator.normal(0.5, 1, 300)), generator.choice([-0.5, 0.5], 300)], -1)
    shift = generator.normal(size=60)[groups]
    scores = (generator.random(300) < 1 / (1 + np.exp(-(design @ [0.3, 1.2, -0.4] + shift)))).astype(float)
    scores[generator.random(300) < 0.2] = 0.5
    theirs = Logit(scores, design).fit(
        disp=False, method="newton", tol=1e-12, cov_type="cluster", cov_kwds={"groups": groups}
    )
    theta, influence = logit(design, scores)
    np.testing.assert_allclose(theta, theirs.params, atol=1e-9)
    sums = np.array([influence[groups == group].sum(0) for group in np.unique(groups)])
    count = len(sums)
    errors = np.sqrt((sums**2).sum(0) * count / (count - 1) * 299 / 297)  # statsmodels' correction for small samples
    np.testing.assert_allclose(errors, theirs.bse, rtol=1e-9)


PUDDINGS = """
1 2 19 22 16   1 3 16 19 12   2 3 19 19 10   1 4 18 23 13   2 4 23 19 9
3 4 19 20 15   1 5 13 19 18   2 5 16 20 12   3 5 16 15 17   4 5 17 14 16
1 6 18 21 12   2 6 22 20 12   3 6 13 18 10   4 6 14 19 18   5 6 11 21 12
"""  # Davidson 1970: brands i and j, how often either was preferred, and how often neither


def counts() -> tuple[np.ndarray, Tables]:
    rows = np.array(PUDDINGS.split(), dtype=int).reshape(-1, 5)
    i, j, won, lost, tied = rows.T
    return np.stack([i, j], -1) - 1, Tables((won + tied / 2)[None], tied[None].astype(float), (won + lost + tied)[None])


def test_strengths_of_puddings_are_those_that_davidson_printed() -> None:
    pairs, tables = counts()
    found = davidson(pairs, tables, players=6, prior_sd=1e6)
    worth = np.exp(found.strengths[0]) / np.exp(found.strengths[0]).sum()
    # Davidson stopped after a few steps; so does the R package PlackettLuce, whose manual repeats these seven
    printed = [0.1388005, 0.1729985, 0.1617420, 0.1653930, 0.1586805, 0.2023855]
    np.testing.assert_allclose(worth, printed, atol=2e-4)
    assert found.log_ties is not None and np.exp(found.log_ties[0]) == pytest.approx(0.7468147, abs=2e-4)


def test_davidson_s_strengths_are_statsmodels_log_linear_ones() -> None:
    """Counts of outcomes are Poisson, their logarithm linear in strengths and ln ν (Fienberg 1979)."""
    pairs, tables = counts()
    points, ties, games = (table[0] for table in tables)
    gap = np.eye(6)[pairs[:, 0]][:, 1:] - np.eye(6)[pairs[:, 1]][:, 1:]
    zero, one, own = np.zeros((15, 1)), np.ones((15, 1)), np.eye(15)
    outcomes = ((gap / 2, zero, points - ties / 2), (-gap / 2, zero, games - points - ties / 2), (0 * gap, one, ties))
    design = np.concatenate([np.concatenate([half, tie, own], -1) for half, tie, _ in outcomes])
    theirs = GLM(np.concatenate([count for *_, count in outcomes]), design, family=Poisson()).fit(tol=1e-13)
    ours = davidson(pairs, tables, players=6, prior_sd=1e6)
    assert ours.log_ties is not None
    np.testing.assert_allclose([*ours.strengths[0, 1:], ours.log_ties[0]], theirs.params[:6], atol=1e-8)
