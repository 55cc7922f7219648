"""Bradley–Terry strengths against choix 0.4, an independent implementation, where its estimate exists."""

from __future__ import annotations

import choix
import numpy as np
import pytest

from cai_lightning.evaluation.ratings import ELO, strengths


def tournament(seed: int, players: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[int, int]]]:
    """Pairs, wins and games of a random connected tournament, and its (winner, loser) list."""
    generator = np.random.default_rng(seed)
    true = generator.normal(size=players)
    pairs = np.array([(i, j) for i in range(players) for j in range(i + 1, players)])
    played = generator.integers(20, 60, len(pairs))
    won = generator.binomial(played, 1 / (1 + np.exp(true[pairs[:, 1]] - true[pairs[:, 0]])))
    outcomes = [
        outcome
        for (i, j), w, n in zip(pairs.tolist(), won, played, strict=True)
        for outcome in [(i, j)] * int(w) + [(j, i)] * int(n - w)
    ]
    return pairs, won.astype(float), played.astype(float), outcomes


@pytest.mark.parametrize("seed", range(3))
def test_maximum_likelihood_is_choix_s(seed: int) -> None:
    pairs, won, played, outcomes = tournament(seed, players=5)
    ours = strengths(pairs, won[None], played[None], players=5, prior_sd=1e6)[0]
    spectral = choix.ilsr_pairwise(5, outcomes, max_iter=1000, tol=1e-12)
    newton = choix.opt_pairwise(5, outcomes, tol=1e-12)
    np.testing.assert_allclose(ELO * ours, ELO * (spectral - spectral[0]), atol=1e-5)
    np.testing.assert_allclose(ELO * ours, ELO * (newton - newton[0]), atol=1e-2)  # its optimiser stops early


def test_prior_is_a_ridge_as_in_choix() -> None:
    # two players: choix has the ridge α (θ0² + θ1²) with θ0 = −θ1 = d / 2, ours d² / (2 sd²)
    outcomes = [(1, 0)] * 9 + [(0, 1)]
    sd = 2.0
    theirs = choix.opt_pairwise(2, outcomes, alpha=1 / sd**2, tol=1e-12)
    ours = strengths(np.array([[0, 1]]), np.array([[1.0]]), np.array([[10.0]]), players=2, prior_sd=sd)[0]
    assert ours[1] == pytest.approx(theirs[1] - theirs[0], abs=1e-5)
