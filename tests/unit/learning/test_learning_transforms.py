import torch

from cai_lightning.learning.transforms import clipped, length_penalised, punished, unchanged

SCORES, LENGTHS = torch.tensor([-3.0, -1.0, 0.5, 2.0]), torch.tensor([1, 4, 5, 9])


def test_scores_stay():
    assert unchanged(SCORES, LENGTHS) is SCORES


def test_clipping_by_hand():
    assert clipped(SCORES, LENGTHS, low=-1.0, high=1.0).tolist() == [-1.0, -1.0, 0.5, 1.0]


def test_shortfalls_count_more():
    # below -1/2: -3 falls short by 2.5 and -1 by 0.5, each counted twice
    assert punished(SCORES, LENGTHS, below=-0.5, factor=2.0).tolist() == [-5.5, -1.5, 0.5, 2.0]


def test_long_replies_cost():
    # 0, 0, 1 and 5 tokens beyond four, a quarter each
    assert length_penalised(SCORES, LENGTHS, free=4, per_token=0.25).tolist() == [-3.0, -1.0, 0.25, 0.75]
