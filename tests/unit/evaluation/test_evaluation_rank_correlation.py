import math

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from cai_lightning.evaluation.rank_correlation import mid_ranks, spearman


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_it_is_scipys_with_and_without_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    one, other = rng.integers(0, levels, (2, 60)).astype(float)
    assert mid_ranks(one) == pytest.approx(rankdata(one))
    assert spearman(one, one + other) == pytest.approx(spearmanr(one, one + other).statistic)


def test_a_constant_has_none() -> None:
    assert math.isnan(spearman(np.ones(4), np.arange(4.0)))
