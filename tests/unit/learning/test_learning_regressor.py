"""A regressor's scores become ratings: by hand, and in a fit."""

from functools import partial

import pytest
import torch
from last_token import LastToken
from torch import nn

from cai_lightning.data.batching import length_buckets
from cai_lightning.data.unpaired import UnpairedData, UnpairedRow
from cai_lightning.learning.fit import fit
from cai_lightning.learning.regressor import RegressorModule

HARM = {"undesirable": 4.0, "desirable": 0.0}


class Known(nn.Module):
    """Scores that are given."""

    def __init__(self, scores):
        super().__init__()
        self.scores = nn.Parameter(torch.tensor(scores))

    def forward(self, _):
        return self.scores


def rows(desirable, weights):
    return [
        UnpairedRow(str(i), [3 + i, 4], [8 + i, 1], *one) for i, one in enumerate(zip(desirable, weights, strict=True))
    ]


def data(given, accumulate=1, batch_tokens=128):
    plan = partial(length_buckets, multiple=4)
    return UnpairedData(
        given, [], plan=plan, batch_tokens=batch_tokens, accumulate=accumulate, route="packed", kl=False, seed=0
    )


def test_the_loss_is_the_weighted_mean_of_squared_errors(recipe):
    """Ratings 4 and 1 against scores of 2 and 2: errors -2 and 1, weights 1 and 3, so (4 + 3) / 4 and (2 + 3) / 4."""
    (batch,) = data(rows((0.0, 0.75), (1.0, 3.0))).train_dataloader()
    module = RegressorModule(Known([2.0, 2.0]), **HARM, **recipe)
    loss, metrics = module._step(batch)
    assert loss.item() == pytest.approx(7 / 4)
    assert metrics["error"].item() == pytest.approx(5 / 4)
    loss.backward()  # 2 x weight x error / 4
    order = batch.rows.argsort()
    assert module.model.scores.grad[order].tolist() == pytest.approx([-1.0, 1.5])
    assert batch.mismatched is None


def test_a_mean_rating_is_learned_where_texts_are_equal(llama, recipe, trainer):
    """One text rated 1 with weight 1 and 0 with weight 3: the least squared error is at a quarter of the way to 0."""
    one = UnpairedRow("a", [3, 4], [8, 1], 1.0, 1.0)
    given = [one, one._replace(id="b", p_desirable=0.0, weight=3.0)]
    module = RegressorModule(LastToken(llama()), **HARM, **recipe)
    fit(module, data(given), epochs=100, **trainer)
    (batch,) = data(given).train_dataloader()
    with torch.no_grad():
        assert module.model(batch.packed).tolist() == pytest.approx([3.0, 3.0], abs=0.05)


def test_accumulated_batches_take_the_step_of_one(llama, recipe, trainer):
    given = rows((0.0, 0.25, 0.5, 1.0), (1.0, 2.0, 1.0, 1.0))
    found = []
    for accumulate, batch_tokens in ((1, 128), (2, 8)):
        module = RegressorModule(LastToken(llama()), **HARM, **recipe)
        fit(module, data(given, accumulate, batch_tokens), epochs=5, **(trainer | {"accumulate": accumulate}))
        found.append(module.model.score.weight.detach().clone())
    assert torch.allclose(*found, rtol=1e-4, atol=1e-6) and found[0].abs().max() > 0.01
