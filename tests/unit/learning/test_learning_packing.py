"""Shared prompts and packed rows change what is read and how often, and nothing that is learned."""

from functools import partial

import pytest
import torch

from cai_lightning.data.batching import best_fit, length_buckets
from cai_lightning.data.pairs import PairData, PairRow, collate_pairs
from cai_lightning.data.sft import SFTData, SFTRow
from cai_lightning.learning.fit import fit
from cai_lightning.learning.losses import dpo_loss
from cai_lightning.learning.preference import PreferenceModule
from cai_lightning.learning.reward_model import RewardModule
from cai_lightning.learning.sft import SFTModule
from cai_lightning.models.adapters import full
from cai_lightning.models.packing import Tree, pack
from cai_lightning.models.reward import reward_from_causal

# prompts of one to six tokens, replies of unequal length in either order
PAIRS = [
    PairRow(str(i), [3 + n for n in range(i + 1)], [8 + i, 9, 1][i % 2 :], [9 + i, 1], 0.8, 1.0 + i, -3.0, -4.0 - i)
    for i in range(6)
]
TEXTS = [SFTRow([3 + i, *range(8, 9 + i), 1], [0.0] + [1.0] * (i + 2)) for i in range(6)]
KINDS = ["dpo", "reward at the end", "mean reward"]


@pytest.fixture
def module(llama, recipe, tokenizer, tmp_path):
    """A function that makes a module of a kind, the same one every time, which learns by plain gradients."""
    llama().save_pretrained(tmp_path / "policy")
    tokenizer.save_pretrained(tmp_path / "policy")
    plain = recipe | {"optimizer": lambda module: torch.optim.SGD(module.parameters(), lr=0.1)}

    def make(kind):
        if kind == "sft":
            return SFTModule(llama(), **plain)
        if kind == "dpo":
            return PreferenceModule(llama(), loss=partial(dpo_loss, beta=0.5), live=None, **plain)
        head = {"marker": None, "mean": kind == "mean reward", "gain": 1.0, "head_std": 0.5}
        reward, _ = reward_from_causal(tmp_path / "policy", adapter=full, dtype="float32", seed=0, **head)
        return RewardModule(reward, centre_coef=0.1, **plain)

    return make


def weights(module):
    return torch.cat([weight.detach().flatten() for weight in module.parameters()])


def gradient(module):
    found = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in module.parameters()]
    return torch.cat([each.flatten() for each in found])


@pytest.mark.parametrize("share", [1, 4], ids=["all prompts", "long prompts"])
@pytest.mark.parametrize("kind", KINDS)
def test_sharing_prompts_changes_neither_loss_nor_gradient(module, step, kind, share):
    losses, gradients, read = [], [], []
    for least in (share, 0):
        batch = collate_pairs(PAIRS, [4, 0, 5, 2, 1, 3], 21.0, share=least, route="packed")
        one = module(kind)
        loss = step(one, batch)
        loss.backward()
        losses.append(loss.item())
        gradients.append(gradient(one))
        read.append(len(batch.packed.ids))
    # of the prompts of 1 to 6 tokens, those of at least `share` once
    assert read[1] - read[0] == {1: 21, 4: 15}[share]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert gradients[1].norm() > 0
    assert (gradients[0] - gradients[1]).norm() < 1e-5 * gradients[1].norm()


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_costs_its_prompt_once_where_it_is_shared_and_twice_where_not(module, step, kind):
    """Counted where a linear layer of the second block reads."""
    pair = PAIRS[4]
    prompt, chosen, rejected = len(pair.prompt), len(pair.chosen), len(pair.rejected)
    assert (prompt, chosen, rejected) == (5, 3, 2)
    for share, expected in ((prompt, 5 + 3 + 2), (prompt + 1, 2 * 5 + 3 + 2)):
        one, read = module(kind), []
        batch = collate_pairs([pair], [0], 1.0, share=share, route="packed")
        step(one, batch)  # a model's first packed row is preceded by a trial
        trunk = one.policy.model if kind == "dpo" else one.model.model.model
        trunk.layers[1].mlp.up_proj.register_forward_hook(
            lambda _, given, __, read=read: read.append(given[0].shape[:-1].numel())
        )
        step(one, batch)
        assert read == [expected]


def data(kind, route, plan):
    given = {"plan": plan, "batch_tokens": 24, "accumulate": 1, "route": route, "seed": 0}
    return SFTData(TEXTS, [], **given) if kind == "sft" else PairData(PAIRS, [], share=3, **given)


@pytest.mark.parametrize("plan", [partial(length_buckets, multiple=4), best_fit], ids=["length_buckets", "best_fit"])
@pytest.mark.parametrize("kind", ["sft", *KINDS])
def test_padded_rows_learn_what_packed_ones_learn(module, trainer, kind, plan):
    ends = []
    for route in ("packed", "padded"):
        one = module(kind)
        start = weights(one)
        fit(one, data(kind, route, plan), epochs=3, **trainer)
        ends.append(weights(one))
        assert (ends[-1] - start).abs().max() > 1e-3
    assert (ends[0] - ends[1]).abs().max() < 1e-5


def test_a_model_that_cannot_read_packed_rows_learns_by_padded_ones(module, trainer):
    """A window shorter than a text: the route is packed, and the fit that of padded rows."""
    ends = []
    for route in ("packed", "padded"):
        one = module("sft")
        one.policy.config.sliding_window = 4
        fit(one, data("sft", route, best_fit), epochs=1, **trainer)
        ends.append(weights(one))
    assert torch.equal(*ends)


def test_texts_of_a_row_learn_as_if_alone(module, step):
    """The gradient of a batch is the sum of those of its texts: nothing flows between neighbours."""
    together = module("sft")
    (batch,) = SFTData(
        TEXTS[:3], [], plan=best_fit, batch_tokens=64, accumulate=1, route="packed", seed=0
    ).train_dataloader()
    step(together, batch).backward()
    total = torch.zeros_like(gradient(together))
    for row in TEXTS[:3]:
        alone = module("sft")
        packed = pack([Tree((), (row.ids,))])
        targets = torch.arange(1, len(row.ids))
        step(alone, batch._replace(packed=packed, targets=targets, weights=torch.ones(len(targets)))).backward()
        total += gradient(alone)
    assert (gradient(together) - total).norm() < 1e-5 * total.norm()
