"""Bands against their limits, and how often they hold; peaks and cycles that are there, and that are not."""

from __future__ import annotations

import math
from itertools import combinations
from statistics import NormalDist

import numpy as np
import pytest

from cai_lightning.evaluation.bands import band, peak
from cai_lightning.evaluation.intervals import draws
from cai_lightning.evaluation.rated import rate_axis
from cai_lightning.evaluation.summary import Run, ratings
from cai_lightning.evaluation.transitivity import transitivity
from cai_lightning.text.records import Assessment, Verdict

CLUSTERS = 80


def test_a_band_of_one_is_an_interval_and_of_many_the_maximum_of_normals() -> None:
    """Of 10 independent figures the largest of ten normals has the 95 % quantile of Šidák: 2.80."""
    values = np.random.default_rng(0).normal(size=(10, 1, 2000))
    drawn = draws([""] * 2000, 1, resamples=4000, seed=0)
    rows = np.asarray(drawn.sums(values) / 2000)
    errors = values.std(-1)[:, 0] / math.sqrt(2000)
    _, high = band(rows, drawn, 2000)
    sidak = NormalDist().inv_cdf((1 + 0.95**0.1) / 2)
    assert (high - rows[0]) / errors == pytest.approx([sidak] * 10, rel=0.05)
    _, one = band(rows[:, :1], drawn, 2000)
    assert (one[0] - rows[0, 0]) / errors[0] == pytest.approx(1.96, rel=0.05)
    # ten copies are one figure
    _, same = band(np.repeat(rows[:, :1], 10, 1), drawn, 2000)
    assert same == pytest.approx(np.full(10, one[0]))
    still = np.full((len(rows), 2), 3.0)
    assert [bound.tolist() for bound in band(still, drawn, 2000)] == [[3, 3], [3, 3]]


def test_200_bands_hold_a_whole_curve_and_its_peak() -> None:
    """Seven points of a curve, prompts shared by neighbours; the band holds all, and the true peak is a candidate."""
    rng, held, kept, alone = np.random.default_rng(2), 0, 0, 0
    true = np.array([0.0, 0.3, 0.5, 0.55, 0.5, 0.3, 0.2])
    for number in range(200):
        noise = rng.normal(size=(1, CLUSTERS)) + rng.normal(size=(7, CLUSTERS))
        drawn = draws([""] * CLUSTERS, 1, resamples=400, seed=number)
        rows = drawn.sums((true[:, None] + noise)[:, None]) / CLUSTERS
        low, high = band(rows, drawn, CLUSTERS)
        held += bool(np.all((low <= true) & (true <= high)))
        found = peak(rows, drawn, CLUSTERS)
        kept += 3 in found.among
        alone += found.at == 3
    assert 0.92 <= held / 200 <= 0.98
    assert kept / 200 >= 0.95
    assert alone / 200 < 0.6  # the highest point of a sample is mostly another one, so a peak needs its candidates


def verdicts(share: dict[tuple[str, str], float], rng: np.random.Generator, prompts: int = CLUSTERS) -> list[Verdict]:
    rows = []
    for k in range(prompts):
        for (player, opponent), wins in share.items():
            score = float(rng.random() < wins)
            rows.append(
                Verdict(
                    prompt=str(k),
                    cluster=str(k),
                    kind="red_team",
                    criterion="harmless",
                    player=player,
                    opponent=opponent,
                    score=score,
                )
            )
    return rows


def checked(rows: list[Verdict], seed: int = 0):  # type: ignore[no-untyped-def]
    columns = {key: k for k, key in enumerate(sorted({(row.kind, row.cluster) for row in rows}))}
    drawn = draws([""] * len(columns), 1, resamples=400, seed=seed)
    return transitivity(rate_axis([rows], columns, drawn, anchor="o", prior_sd=2.0), drawn)


def test_a_star_has_nothing_to_check() -> None:
    assert checked(verdicts({("a", "o"): 0.6, ("b", "o"): 0.3}, np.random.default_rng(0))) is None


def test_rock_paper_scissors_is_found_out() -> None:
    """All strengths are equal, so every pair is off by what it wins beyond a half."""
    found = checked(verdicts({("a", "o"): 0.8, ("b", "a"): 0.8, ("o", "b"): 0.8}, np.random.default_rng(0), 400))
    assert found["chords"] == 1 and len(found["misfits"]) == 3
    assert abs(found["worst"]["value"]) == pytest.approx(0.3, abs=0.05)


def test_transitive_players_are_called_misfits_in_at_most_one_world_in_twenty() -> None:
    theta = {"o": 0.0, "a": 0.5, "b": 1.0, "c": -0.7}
    share = {(i, j): 1 / (1 + math.exp(theta[j] - theta[i])) for i, j in combinations(theta, 2)}
    rng = np.random.default_rng(5)
    alarms = sum(bool(checked(verdicts(share, rng), seed)["misfits"]) for seed in range(300))
    assert checked(verdicts(share, rng))["chords"] == 3
    assert 0.02 <= alarms / 300 <= 0.08


def test_a_summary_says_where_a_run_peaked() -> None:
    """Of 300 prompts 150, 270, 150 and 120 are won: the second snapshot is the peak, and surely so."""
    wins = {"ppo@64": 150, "ppo@128": 270, "ppo@256": 150, "ppo": 120}
    rows = [
        verdict
        for player, won in wins.items()
        for k, verdict in enumerate(verdicts({(player, "o"): 0.0}, np.random.default_rng(0), 300))
        for verdict in [Verdict(**{**vars(verdict), "score": float(k * 7 % 300 < won)})]
    ]
    seen = [
        Assessment(prompt="0", cluster="0", kind="red_team", player=name, sequences=at, metrics={})
        for name, at in (("ppo@64", 64), ("ppo@128", 128), ("ppo@256", 256), ("ppo", None))
    ]
    options = {"anchor": "o", "prior_sd": 2.0, "reference": -400.0, "resamples": 300, "seed": 0}
    found = ratings({("", "0"): Run(rows, seen)}, **options)["variants"][""]  # type: ignore[arg-type]
    assert found["peaks"] == {"ppo": {"harmless": {"at": "ppo@128", "among": ["ppo@128"], "peaked": True}}}
    assert found["transitivity"] == {"harmless": None}
