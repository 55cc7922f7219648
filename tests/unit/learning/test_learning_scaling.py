import pytest
import torch

from cai_lightning.learning.scaling import RunningWhiten, raw

SCORES = torch.tensor([-3.0, -1.0, 0.5, 2.0])


def test_raw_scores_stay():
    assert raw(SCORES) is SCORES


def test_running_whitening_starts_at_the_first_batch_and_moves_slowly():
    scaling = RunningWhiten(momentum=0.9)
    first = scaling(torch.tensor([1.0, 3.0]))
    # mean 2, sd 1
    assert first.tolist() == pytest.approx([-1.0, 1.0], abs=1e-4)
    scaling(torch.tensor([12.0, 12.0]))
    # 0.9 * 2 + 0.1 * 12 and 0.9 * 1 + 0.1 * 0
    assert (scaling.mean, scaling.sd) == pytest.approx((3.0, 0.9))


def test_running_statistics_go_on_from_their_state():
    one, other = RunningWhiten(momentum=0.9), RunningWhiten(momentum=0.9)
    one(torch.tensor([1.0, 3.0]))
    other.load_state_dict(one.state_dict())
    batch = torch.tensor([2.0, 9.0])
    assert torch.equal(one(batch), other(batch)) and one.state_dict() == other.state_dict()
