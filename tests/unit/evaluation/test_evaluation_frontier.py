from __future__ import annotations

import numpy as np
import pytest

from cai_lightning.evaluation.frontier import hypervolume, non_dominated, probability_non_dominated


def test_one_point_spans_a_rectangle() -> None:
    assert hypervolume(np.array([[100.0, 300.0]]), (-400, -400)) == 500 * 700


def test_union_of_rectangles_by_hand() -> None:
    # 3×1 ∪ 2×2 ∪ 1×3 from the origin: columns of height 3, 2, 1; the dominated (1, 1) adds nothing
    points = np.array([[1.0, 3.0], [3.0, 1.0], [1.0, 1.0], [2.0, 2.0]])
    assert hypervolume(points, (0, 0)) == 6
    assert hypervolume(points[::-1], (0, 0)) == 6


def test_points_below_the_reference_add_nothing() -> None:
    assert hypervolume(np.array([[5.0, -1.0], [-1.0, 5.0], [1.0, 1.0]]), (0, 0)) == 1


def test_hypervolume_is_monte_carlo_s() -> None:
    generator = np.random.default_rng(0)
    points = generator.random((3, 6, 2))
    darts = generator.random((100_000, 1, 2))
    for batch, volume in zip(points, hypervolume(points, (0, 0)), strict=True):
        assert volume == pytest.approx((darts <= batch).all(-1).any(-1).mean(), abs=0.006)


def test_pareto_set_by_hand() -> None:
    points = np.array([[0.0, 0.0], [1.0, 3.0], [2.0, 2.0], [2.0, 1.0], [2.0, 2.0]])
    assert non_dominated(points).tolist() == [False, True, True, False, True]  # equal points spare each other


def test_probability_counts_draws() -> None:
    draws = np.array([[[0.0, 0.0], [1.0, 1.0]], [[2.0, 0.0], [1.0, 1.0]]])
    assert probability_non_dominated(draws).tolist() == [0.5, 1.0]
