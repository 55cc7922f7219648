from functools import partial

import pytest
import torch
from last_token import LastToken
from torch import nn

from cai_lightning.data.batching import length_buckets
from cai_lightning.data.pairs import PairData, PairRow
from cai_lightning.learning.fit import fit
from cai_lightning.learning.reward_model import RewardModule


def rows(p_chosen, weights=(1.0, 1.0, 1.0, 1.0)):
    return [PairRow(str(i), [3 + i, 4], [8 + i, 1], [9 + i, 10, 1], p_chosen, weights[i], None, None) for i in range(4)]


def data(pairs):
    plan = partial(length_buckets, multiple=4)
    return PairData(pairs, [], plan=plan, batch_tokens=128, accumulate=1, share=1, route="packed", seed=0)


def rewards(module, pairs):
    (batch,) = data(pairs).train_dataloader()
    with torch.no_grad():
        found = module.model(batch.packed)
    order = batch.rows.argsort()
    return found[::2][order], found[1::2][order]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_four_pairs_are_learned(llama, recipe, trainer, precision):
    module = RewardModule(LastToken(llama()), centre_coef=0.01, **recipe)
    fit(module, data(rows(1.0)), epochs=80, **(trainer | {"precision": precision}))
    chosen, rejected = rewards(module, rows(1.0))
    assert (chosen - rejected).min() > 3


def test_soft_labels_set_the_margin(llama, recipe, trainer):
    """At P = 0.9 the best margin is ln 9 = 2.197, whatever the weights; centred rewards are +-1.099."""
    pairs = rows(0.9, weights=(1.0, 2.0, 3.0, 4.0))
    module = RewardModule(LastToken(llama()), centre_coef=0.1, **recipe)
    fit(module, data(pairs), epochs=100, **trainer)
    chosen, rejected = rewards(module, pairs)
    assert chosen.tolist() == pytest.approx([1.0986] * 4, abs=0.1)
    assert rejected.tolist() == pytest.approx([-1.0986] * 4, abs=0.1)


def test_a_margin_is_added_to_what_a_soft_label_asks(llama, recipe, trainer):
    """At P = 0.9 and a margin of 1.5 nats the best difference is 1.5 + ln 9, without one ln 9."""
    asked = (1.5, 0.0, 1.5, 0.0)
    pairs = [row._replace(margin=margin) for row, margin in zip(rows(0.9), asked, strict=True)]
    module = RewardModule(LastToken(llama()), centre_coef=0.01, **recipe)
    fit(module, data(pairs), epochs=150, **trainer)
    chosen, rejected = rewards(module, pairs)
    assert (chosen - rejected).tolist() == pytest.approx([margin + 2.1972 for margin in asked], abs=0.15)


class Known(nn.Module):
    """Rewards that are given: of each chosen and rejected reply, one after the other."""

    def __init__(self, rewards):
        super().__init__()
        self.rewards = torch.tensor(rewards)

    def forward(self, _):
        return self.rewards


def test_accuracies_are_told_apart_by_source(recipe, step):
    """Of the first source both pairs are right, of the second one of two."""
    pairs = [row._replace(source=number // 2) for number, row in enumerate(rows(0.9))]
    (batch,) = data(pairs).train_dataloader()
    known = Known([reward for row in batch.rows.tolist() for reward in ((2.0, 1.0, 3.0, -1.0)[row], 0.0)])
    module = RewardModule(known, centre_coef=0.0, sources=("ai", "human"), **recipe)
    step(module, batch)
    (figures,) = module.log_dict.call_args.args
    found = [figures[f"rewards/accuracies{name}"].item() for name in ("", "/ai", "/human")]
    assert found == [0.75, 1.0, 0.5]


def test_heavier_pairs_win_where_labels_disagree(llama, recipe, trainer):
    """One pair labelled both ways: P(chosen) is the weighted mean of the labels, 3/4, so the margin is ln 3."""
    one = rows(1.0)[0]
    other = one._replace(p_chosen=0.0, weight=1.0)
    module = RewardModule(LastToken(llama()), centre_coef=0.1, **recipe)
    fit(module, data([one._replace(weight=3.0), other]), epochs=60, **trainer)
    chosen, rejected = rewards(module, [one])
    assert (chosen - rejected).item() == pytest.approx(1.0986, abs=0.05)
