"""Davidson's model against closed forms, a slow posterior and simulated worlds, beside half a win for a tie."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize

from cai_lightning.evaluation.intervals import draws
from cai_lightning.evaluation.rated import elo_figure, rate_axis
from cai_lightning.evaluation.ratings import ELO, strengths
from cai_lightning.evaluation.summary import Run, ratings
from cai_lightning.evaluation.ties import Tables, TieModel, davidson, half_wins
from cai_lightning.evaluation.transitivity import transitivity
from cai_lightning.text.records import Verdict

FLAT = 1e6  # nats: a prior that says nothing
ONE = np.array([[0, 1]])


def fit(won: float, tied: float, lost: float, prior_sd: float = FLAT) -> tuple[float, float]:
    """How many nats the second of two players is stronger, and ν."""
    tables = Tables(*(np.array([[value]], dtype=float) for value in (lost + tied / 2, tied, won + tied + lost)))
    found = davidson(ONE, tables, players=2, prior_sd=prior_sd)
    assert found.log_ties is not None
    return float(found.strengths[0, 1]), math.exp(found.log_ties[0])


def test_two_players_have_the_log_odds_of_a_win_against_a_loss() -> None:
    gap, tie = fit(won=6, tied=3, lost=2)  # two free chances, so the model repeats the shares: ν = 3 / √(6 · 2)
    assert gap == pytest.approx(math.log(3), abs=1e-9)
    assert tie == pytest.approx(3 / math.sqrt(12), abs=1e-9)


def test_without_ties_and_prior_it_is_bradley_terry() -> None:
    generator = np.random.default_rng(0)
    pairs = np.array(list(combinations(range(4), 2)))
    games = generator.integers(20, 40, (5, 6)).astype(float)
    wins = np.floor(games * generator.uniform(0.2, 0.8, (5, 6)))
    ours = davidson(pairs, Tables(wins, np.zeros_like(wins), games), players=4, prior_sd=FLAT).strengths
    np.testing.assert_allclose(ours, strengths(pairs, wins, games, players=4, prior_sd=FLAT), atol=1e-6)


@pytest.mark.parametrize(
    "counts",  # won, tied, lost of each pair
    [
        [(5, 3, 2), (0, 4, 9), (1, 1, 1)],
        [(9, 0, 0), (7, 0, 0), (0, 0, 8)],  # no tie, and nobody loses both ways
        [(0, 9, 0), (0, 3, 0), (0, 5, 0)],  # ties alone
        [(900, 4000, 0), (0, 3000, 10), (2, 0, 0)],
    ],
)
def test_strengths_are_the_top_of_a_posterior_written_out(counts: list[tuple[int, int, int]]) -> None:
    pairs, sd = [(0, 1), (0, 2), (1, 2)], 2.0

    def lack(at: np.ndarray) -> float:
        theta, total = [0.0, at[0], at[1]], float(np.sum(np.square(at))) / (2 * sd**2)
        for (i, j), (won, tied, lost) in zip(pairs, counts, strict=True):
            first, second = math.exp(theta[i]), math.exp(theta[j])
            even = math.exp(at[2]) * math.sqrt(first * second)
            for count, weight in ((won, first), (tied, even), (lost, second)):
                total -= count * math.log(weight / (first + second + even))
        return total

    slow = minimize(lack, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 9999})
    won, tied, lost = np.array(counts, dtype=float).T
    found = davidson(
        np.array(pairs),
        Tables(*((won + tied / 2)[None], tied[None], (won + tied + lost)[None])),
        players=3,
        prior_sd=sd,
    )
    assert found.log_ties is not None
    np.testing.assert_allclose([*found.strengths[0, 1:], found.log_ties[0]], slow.x, atol=2e-5)


def test_turning_all_verdicts_round_turns_the_strengths() -> None:
    assert fit(7, 4, 2, prior_sd=2.0)[0] == pytest.approx(-fit(2, 4, 7, prior_sd=2.0)[0], abs=1e-12)


def verdict(prompt: int, player: str, opponent: str, score: float) -> Verdict:
    place = {"prompt": str(prompt), "cluster": str(prompt), "kind": "red_team", "criterion": "harmless"}
    return Verdict(**place, player=player, opponent=opponent, score=score)


def world(
    strength: dict[str, float], tie: float, prompts: int, generator: np.random.Generator, *, star: bool
) -> list[Verdict]:
    """Verdicts by Davidson's law with ν = `tie`: every player against the anchor, and in no star against each other."""
    rows = []
    pairs = [(name, "o") for name in strength if name != "o"] if star else combinations(strength, 2)
    for player, opponent in pairs:
        gap = strength[player] - strength[opponent]
        weights = np.array([math.exp(gap / 2), tie, math.exp(-gap / 2)])
        scores = generator.choice([1.0, 0.5, 0.0], p=weights / weights.sum(), size=prompts)
        rows += [verdict(k, player, opponent, float(score)) for k, score in enumerate(scores)]
    return rows


def rated(rows: list[Verdict], seed: int, ties: TieModel):  # type: ignore[no-untyped-def]
    columns = {("red_team", name): k for k, name in enumerate(sorted({row.cluster for row in rows}))}
    drawn = draws(["red_team"] * len(columns), 1, resamples=300, seed=seed)
    return rate_axis([rows], columns, drawn, anchor="o", prior_sd=2.0, ties=ties), drawn


def test_where_half_of_all_verdicts_are_ties_its_intervals_hold_the_truth_and_those_of_half_wins_do_not() -> None:
    """Of 200 worlds with a gap of 1.2 nats. With ν = 2 points are e^(d/2) / (1 + e^(d/2)): half-wins see half of d."""
    generator, true, hits = np.random.default_rng(4), 1.2, [0, 0]
    for number in range(200):
        rows = world({"o": 0.0, "x": true}, 2.0, 200, generator, star=True)
        for k, model in enumerate((davidson, half_wins)):
            one, drawn = rated(rows, number, model)
            figure = elo_figure(one, "x", drawn)
            hits[k] += figure["low"] <= ELO * true <= figure["high"]
    assert 0.92 <= hits[0] / 200 <= 0.98
    assert hits[1] / 200 < 0.1


def test_players_of_its_law_are_called_misfits_in_at_most_one_world_in_twelve() -> None:
    """Expected points of its strengths are not the logistic curve's: read so, all worlds would have misfits."""
    strength = {"o": 0.0, "a": 1.5, "b": 3.0, "c": -1.5}
    generator, alarms = np.random.default_rng(6), 0
    for number in range(200):
        found = transitivity(*rated(world(strength, 3.0, 200, generator, star=False), number, davidson))
        alarms += bool(found["misfits"])
    assert found["chords"] == 3
    assert 0.01 <= alarms / 200 <= 0.08


def test_a_player_that_never_lost_has_one_bound_and_one_that_only_tied_has_none() -> None:
    ahead = [verdict(k, "x", "o", float(k % 2 or 0.5)) for k in range(20)]
    one, drawn = rated([*ahead, *(verdict(k, "y", "o", 0.5) for k in range(20))], 0, davidson)
    figure = elo_figure(one, "x", drawn)
    assert figure["high"] is None and figure["low"] == pytest.approx(400 * math.log10(20 / 3.8414588), abs=1e-3)
    even = elo_figure(one, "y", drawn)
    assert even == {"value": pytest.approx(0, abs=1e-9), "low": None, "high": None, "n": 20}


def test_a_summary_says_how_often_equals_tie_and_only_then_that_davidson_made_it() -> None:
    rows = world({"o": 0.0, "x": 0.7}, 2.0, 4000, np.random.default_rng(1), star=True)
    options = {"anchor": "o", "prior_sd": 2.0, "reference": -400.0, "resamples": 200, "seed": 0}
    runs = {("", "0"): Run(rows, [])}
    half, own = (ratings(runs, **options, ties=model)["variants"][""] for model in (half_wins, davidson))  # type: ignore[arg-type]
    assert "davidson" not in half and half["ties"] == own["ties"]
    figure = own["davidson"]["harmless"]
    assert figure["low"] < 0.5 < figure["high"] and figure["high"] - figure["low"] < 0.05  # 2 / (2 + 2)
    elo = [one["players"]["x"]["harmless_elo"]["value"] for one in (half, own)]
    assert elo == pytest.approx([0.35 * ELO, 0.7 * ELO], abs=12)  # as above; three standard errors
