from __future__ import annotations

import math

import numpy as np
import pytest

from cai_lightning.evaluation import ratings
from cai_lightning.evaluation.ratings import ELO, separated, strengths, tabulate, win_matrix
from cai_lightning.text.records import Verdict

FLAT = 1e6  # nats: a prior that says nothing


def verdict(player: str, score: float, *, prompt: str = "p0", opponent: str = "anchor") -> Verdict:
    return Verdict(
        prompt=prompt,
        cluster=prompt,
        kind="red_team",
        criterion="harmless",
        player=player,
        opponent=opponent,
        score=score,
    )


def table(*verdicts: Verdict) -> ratings.Games:
    columns = {key: k for k, key in enumerate(sorted({(v.kind, v.cluster) for v in verdicts}))}
    return tabulate([list(verdicts)], columns, anchor="anchor")


def fit(games: ratings.Games, prior_sd: float) -> dict[str, float]:
    wins, played = games.wins.sum((1, 2))[None], games.games.sum((1, 2))[None]
    theta = strengths(games.pairs, wins, played, players=len(games.players), prior_sd=prior_sd)
    return dict(zip(games.players, theta[0].tolist(), strict=True))


def test_two_players_without_prior_have_the_log_odds_of_their_points() -> None:
    rows = [verdict("x", 1.0)] * 7 + [verdict("x", 0.0)] * 2 + [verdict("x", 0.5)] * 2  # 8 of 11 points
    assert fit(table(*rows), FLAT)["x"] == pytest.approx(math.log(8 / 3), abs=1e-6)


def test_400_elo_are_ten_to_one() -> None:
    rows = [verdict("x", 1.0)] * 10 + [verdict("x", 0.0)]
    assert ELO * fit(table(*rows), FLAT)["x"] == pytest.approx(400, abs=1e-4)


def test_equal_points_are_equal_strengths_under_any_prior() -> None:
    rows = [verdict("x", 1.0), verdict("x", 0.0), verdict("y", 0.5), verdict("x", 0.5, opponent="y")]
    assert fit(table(*rows), 2.0) == pytest.approx({"anchor": 0.0, "x": 0.0, "y": 0.0}, abs=1e-12)


def test_prior_is_gaussian_on_the_difference_to_the_anchor() -> None:
    # three wins in three games: 3 (1 − σ(θ)) = θ / sd², solved by bisection
    low, high = 0.0, 20.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if 3 / (1 + math.exp(middle)) > middle / 4 else (low, middle)
    assert fit(table(*[verdict("x", 1.0)] * 3), 2.0)["x"] == pytest.approx(low, abs=1e-9)


def test_rating_in_a_star_does_not_depend_on_who_else_is_rated() -> None:
    x = [verdict("x", 1.0)] * 5 + [verdict("x", 0.0)] * 2
    y = [verdict("y", 1.0)] * 50
    assert fit(table(*x, *y), 2.0)["x"] == pytest.approx(fit(table(*x), 2.0)["x"], abs=1e-9)


def test_swapping_the_sides_of_every_verdict_changes_nothing() -> None:
    rows = [verdict("x", 1.0), verdict("x", 0.0), verdict("x", 1.0), verdict("y", 1.0), verdict("y", 0.0, opponent="x")]
    turned = [Verdict(**{**vars(v), "player": v.opponent, "opponent": v.player, "score": 1 - v.score}) for v in rows]
    assert fit(table(*rows), 2.0) == pytest.approx(fit(table(*turned), 2.0), abs=1e-12)


def test_batch_is_the_same_as_one_by_one() -> None:
    generator = np.random.default_rng(0)
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    played = generator.integers(1, 30, (6, 3)).astype(float)
    wins = played * generator.random((6, 3))
    together = strengths(pairs, wins, played, players=3, prior_sd=2.0)
    for row in range(6):
        alone = strengths(pairs, wins[[row]], played[[row]], players=3, prior_sd=2.0)
        np.testing.assert_allclose(together[[row]], alone, atol=1e-10)


def test_unconnected_player_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"no chain of verdicts links 'y', 'z' to the anchor 'anchor'") as error:
        table(verdict("x", 1.0), verdict("y", 1.0, opponent="z"))
    assert "\n" not in str(error.value)


def test_player_missing_from_one_replicate_is_refused() -> None:
    with pytest.raises(ValueError, match="'x' to the anchor 'anchor' in replicate 1"):
        tabulate([[verdict("x", 1.0)], []], {("red_team", "p0"): 0}, anchor="anchor")


def test_separated_players_are_named() -> None:
    games = table(verdict("x", 1.0), verdict("y", 0.0), verdict("z", 0.5))
    assert separated(games) == {"x": "all wins", "y": "all losses"}
    assert math.isfinite(fit(games, 2.0)["x"])


def test_win_matrix_by_hand() -> None:
    games = table(verdict("x", 1.0), verdict("x", 0.5), verdict("y", 0.0, opponent="x"))
    assert win_matrix(games) == {
        "players": ["anchor", "x", "y"],
        "share": [[None, 0.25, None], [0.75, None, 1.0], [None, 0.0, None]],
        "n": [[0, 2, 0], [2, 0, 1], [0, 1, 0]],
    }
