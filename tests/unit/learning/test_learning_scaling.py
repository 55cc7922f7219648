import pytest
import torch

from cai_lightning.learning.scaling import RunningWhiten, clipped, punished, raw

SCORES = torch.tensor([-3.0, -1.0, 0.5, 2.0])


def test_raw_scores_stay():
    assert raw(SCORES) is SCORES


def test_clipping_by_hand():
    assert clipped(SCORES, low=-1.0, high=1.0).tolist() == [-1.0, -1.0, 0.5, 1.0]


def test_shortfalls_count_more():
    # below -1/2: -3 falls short by 2.5 and -1 by 0.5, each counted twice
    assert punished(SCORES, below=-0.5, factor=2.0).tolist() == [-5.5, -1.5, 0.5, 2.0]


def test_running_whitening_starts_at_the_first_batch_and_moves_slowly():
    scaling = RunningWhiten(momentum=0.9)
    first = scaling(torch.tensor([1.0, 3.0]))
    # mean 2, sd 1
    assert first.tolist() == pytest.approx([-1.0, 1.0], abs=1e-4)
    scaling(torch.tensor([12.0, 12.0]))
    # 0.9 * 2 + 0.1 * 12 and 0.9 * 1 + 0.1 * 0
    assert (scaling.mean, scaling.sd) == pytest.approx((3.0, 0.9))
