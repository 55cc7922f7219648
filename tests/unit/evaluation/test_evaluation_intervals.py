from __future__ import annotations

import numpy as np
import pytest

from cai_lightning.evaluation.intervals import clustered_share, draws, t_quantile, wilson


def drawn(clusters: int, replicates: int, resamples: int = 400, seed: int = 0):  # type: ignore[no-untyped-def]
    return draws(["red_team"] * clusters, replicates, resamples=resamples, seed=seed)


@pytest.mark.parametrize(
    ("dof", "quantile"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (9, 2.2622), (30, 2.0423), (1e6, 1.9600)]
)
def test_t_quantile_is_the_printed_table(dof: float, quantile: float) -> None:
    assert t_quantile(dof) == pytest.approx(quantile, abs=4e-4)  # the table has four digits; 1e6 is capped


def test_wilson_is_the_published_example() -> None:
    # Newcombe (1998), table I: 81 of 263, and 0 of 20
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


def test_draws_are_fixed_by_their_seed_and_stay_within_strata() -> None:
    strata = ["benign"] * 4 + ["red_team"] * 6
    one, two = (draws(strata, 3, resamples=50, seed=7) for _ in range(2))
    np.testing.assert_array_equal(one.clusters, two.clusters)
    np.testing.assert_array_equal(one.replicates, two.replicates)
    assert (one.clusters[:, :4].sum(1) == 4).all() and (one.clusters[:, 4:].sum(1) == 6).all()
    assert not np.array_equal(one.clusters, draws(strata, 3, resamples=50, seed=8).clusters)


def test_sums_are_the_slow_loop() -> None:
    counts = drawn(5, 3, resamples=4)
    table = np.random.default_rng(1).random((2, 3, 5))
    rows = counts.sums(table)
    assert rows.shape == (1 + 4 + 4, 2)
    for k in range(2):
        assert rows[0, k] == pytest.approx(sum(table[k, r, c] for r in range(3) for c in range(5)))
        for b in range(4):
            by_cluster = sum(table[k, r, c] * counts.clusters[b, c] for r in range(3) for c in range(5))
            by_seed = sum(table[k, r, c] * counts.replicates[b, r] for r in range(3) for c in range(5))
            assert rows[1 + b, k] == pytest.approx(by_cluster)
            assert rows[5 + b, k] == pytest.approx(by_seed)


def test_one_replicate_resamples_clusters_only() -> None:
    counts = drawn(6, 1, resamples=30)
    rows = counts.sums(np.random.default_rng(0).random((1, 6)))
    assert rows.shape == (31,)
    assert (counts.levels(rows)[1] == 0).all()


def test_constant_data_have_an_empty_interval() -> None:
    counts = drawn(20, 3)
    assert counts.interval(counts.sums(np.full((3, 20), 0.25)) / 60, 20) == pytest.approx((0.25, 0.25))


def test_differences_are_paired() -> None:
    # both systems share the prompts' difficulty, so the interval of their difference is much narrower than theirs
    generator = np.random.default_rng(0)
    difficulty = generator.normal(size=(1, 80))
    x, y = (difficulty + 0.05 * generator.normal(size=(1, 80)) for _ in range(2))
    counts = drawn(80, 1)
    low, high = counts.interval(counts.sums(x) / 80, 80)
    paired = counts.interval(counts.sums(x) / 80 - counts.sums(y) / 80, 80)
    assert paired.high - paired.low < (high - low) / 5


@pytest.mark.parametrize(
    ("replicates", "between_seeds", "between_prompts"),
    [(1, 0.0, 0.5), (3, 0.05, 0.3), (3, 0.1, 0.3), (5, 0.1, 0.3)],
)
def test_nominal_95_percent_covers_92_to_98(replicates: int, between_seeds: float, between_prompts: float) -> None:
    generator = np.random.default_rng(3)
    clusters, covered = 60, 0
    for simulation in range(400):
        data = (
            between_seeds * generator.normal(size=(replicates, 1))
            + between_prompts * generator.normal(size=(1, clusters))
            + 0.5 * generator.normal(size=(replicates, clusters))
        )
        counts = drawn(clusters, replicates, seed=simulation)
        low, high = counts.interval(counts.sums(data) / data.size, clusters)
        covered += low <= 0 <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_covariance_has_the_intervals_widths_and_the_data_s_correlation() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(1, 200))
    y = 0.8 * x + 0.6 * generator.normal(size=(1, 200))
    counts = drawn(200, 1, resamples=4000)
    rows = np.stack([counts.sums(x), counts.sums(y)], -1) / 200
    covariance = counts.covariance(rows, [200, 200])
    low, high = counts.interval(rows[:, 0], 200)
    assert 2 * 1.96 * np.sqrt(covariance[0, 0]) == pytest.approx(high - low, rel=0.05)
    correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert correlation == pytest.approx(np.corrcoef(x[0], y[0])[0, 1], abs=0.03)


def test_clustered_share_by_hand() -> None:
    # ten clusters, half 1 and half 0, each asked twice: sd √(2.5 / 9), t with 9 degrees of freedom
    values = np.repeat([1.0, 0.0], 10)
    mean, bounds, n = clustered_share(values, [str(k // 2) for k in range(20)])
    half = 2.2622 * np.sqrt(2.5 / 9 / 10)
    assert (mean, n) == (0.5, 10)
    assert bounds == pytest.approx((0.5 - half, 0.5 + half), abs=1e-4)


def test_clustered_share_of_equal_values_is_wilson_s() -> None:
    assert clustered_share(np.ones(20), [str(k) for k in range(20)]) == (1.0, wilson(20, 20), 20)
    with pytest.raises(ValueError, match="at least one value"):
        clustered_share(np.ones(0), [])
