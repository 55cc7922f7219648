from functools import partial

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from cai_lightning.data.batching import length_buckets
from cai_lightning.data.sft import SFTData, SFTRow
from cai_lightning.learning.fit import fit
from cai_lightning.learning.optim import muon_adamw, warmup_linear
from cai_lightning.learning.sft import SFTModule

# Four prompts of one token; each has its own reply, of its own length.
ROWS = [SFTRow([3 + i, *range(8, 9 + i), 1], [0.0] + [1.0] * (i + 2)) for i in range(4)]


def data(rows, *, batch_tokens, accumulate, route="packed"):
    plan = partial(length_buckets, multiple=2)
    return SFTData(rows, [], plan=plan, batch_tokens=batch_tokens, accumulate=accumulate, route=route, seed=0)


def greedy(policy, prompt):
    ids = [prompt]
    while ids[-1] != 1 and len(ids) < 12:
        with torch.no_grad():
            ids.append(int(policy(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids


ROUTES = pytest.mark.parametrize("route", ["packed", "padded"])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_four_rows_are_learned_to_their_end(llama, recipe, trainer, precision):
    module = SFTModule(llama(), **recipe)
    assert module.policy.training is False
    fit(module, data(ROWS, batch_tokens=64, accumulate=1), epochs=50, **(trainer | {"precision": precision}))
    assert [greedy(module.policy, row.ids[0]) for row in ROWS] == [row.ids for row in ROWS]


def test_muon_learns_them_too(llama, trainer):
    optimizer = partial(
        muon_adamw,
        muon_lr=0.02,
        muon_momentum=0.95,
        muon_weight_decay=0.01,
        lr=1e-2,
        betas=(0.9, 0.95),
        eps=1e-8,
        weight_decay=0.0,
    )
    schedule = partial(warmup_linear, warmup_steps=3, final_fraction=0.1)
    module = SFTModule(llama(), optimizer=optimizer, schedule=schedule)
    fit(module, data(ROWS, batch_tokens=64, accumulate=1), epochs=50, **trainer)
    assert [greedy(module.policy, row.ids[0]) for row in ROWS] == [row.ids for row in ROWS]


@ROUTES
def test_the_loss_is_the_slow_sum_over_weighted_tokens(llama, recipe, step, route):
    """Weights, the shift and the divisor, token by token through plain transformers."""
    module = SFTModule(llama(), **recipe)
    rows = [SFTRow([3, 8, 9, 1], [0.0, 1.0, 4.0, 0.5]), SFTRow([4, 9, 1], [0.0, 0.0, 2.0])]
    (batch,) = data(rows, batch_tokens=64, accumulate=1, route=route).train_dataloader()
    total = weight = 0.0
    for row in rows:
        logits = module.policy(torch.tensor([row.ids])).logits[0]
        for place in range(1, len(row.ids)):
            total -= row.weights[place] * logits[place - 1].log_softmax(-1)[row.ids[place]].item()
            weight += row.weights[place]
    assert step(module, batch).item() == pytest.approx(total / weight, rel=1e-5)


@ROUTES
def test_no_text_is_learned_from_what_stands_beside_it(llama, recipe, step, route):
    module = SFTModule(llama(tie=False), **recipe)
    (batch,) = data(ROWS[:2], batch_tokens=64, accumulate=1, route=route).train_dataloader()
    step(module, batch).backward()
    # the end token is in every text but leads nowhere, least of all to the next text: its embedding gets no gradient
    gradient = module.policy.get_input_embeddings().weight.grad
    assert gradient[[0, 1]].abs().max() == 0
    assert gradient[[3, 4, 8]].abs().min(0).values.max() > 0


@pytest.mark.parametrize("batch_tokens", [12, 8])
def test_accumulation_weighs_every_token_alike(llama, recipe, trainer, batch_tokens):
    """Rows of unequal length in several parts, fewer than the window holds: the updates of one whole batch."""
    plain = recipe | {"optimizer": lambda module: torch.optim.SGD(module.parameters(), lr=0.1)}
    whole, parts = SFTModule(llama(), **plain), SFTModule(llama(), **plain)
    fit(whole, data(ROWS, batch_tokens=64, accumulate=1), epochs=3, **trainer)
    split = data(ROWS, batch_tokens=batch_tokens, accumulate=4)
    assert 1 < len(split.train_dataloader()) <= 4
    fit(parts, split, epochs=3, **(trainer | {"accumulate": 4}))
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        assert (a - b).abs().max() < 1e-6


def test_two_fits_end_in_equal_bits(llama, recipe, trainer):
    ends = []
    for _ in range(2):
        module = SFTModule(llama(), **recipe)
        fit(module, data(ROWS, batch_tokens=16, accumulate=1), epochs=3, **trainer)
        ends.append([p.detach().clone() for p in module.parameters()])
        torch.rand(7)
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def gpt2(**changes):
    small = dict(vocab_size=16, n_embd=32, n_layer=2, n_head=2, n_positions=64, bos_token_id=None, eos_token_id=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(**(small | changes))).eval()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_dropout_between_tokens_is_on_while_training_and_drawn_by_seed(llama, recipe, trainer, kind):
    """Packed rows know none, so such a model's rows are padded."""
    ends = []
    for seed in (0, 0, 1):
        if kind == "llama":
            policy = llama()
            policy.config.attention_dropout = 0.5
            for layer in policy.model.layers:
                layer.self_attn.attention_dropout = 0.5
        else:
            policy = gpt2(attn_pdrop=0.5, resid_pdrop=0.0, embd_pdrop=0.0)
        module = SFTModule(policy, **recipe)
        fit(module, data(ROWS, batch_tokens=64, accumulate=1), epochs=2, **(trainer | {"seed": seed}))
        ends.append(policy.get_input_embeddings().weight.detach().clone())
        assert policy.training is False
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_dropout_of_states_is_drawn_by_seed_on_packed_rows(recipe, trainer):
    ends = []
    for seed in (0, 0, 1):
        policy = gpt2(attn_pdrop=0.0, resid_pdrop=0.5, embd_pdrop=0.0)
        module = SFTModule(policy, **recipe)
        fit(module, data(ROWS, batch_tokens=64, accumulate=1), epochs=2, **(trainer | {"seed": seed}))
        ends.append(policy.get_input_embeddings().weight.detach().clone())
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])
