from functools import partial

import pytest
import torch
from lightning.pytorch import Callback

from cai_lightning.data.batching import length_buckets
from cai_lightning.data.unpaired import UnpairedData, UnpairedRow
from cai_lightning.learning.fit import fit
from cai_lightning.learning.preference import Frozen, adapter_off
from cai_lightning.learning.unpaired import UnpairedModule
from cai_lightning.learning.unpaired_losses import kto_loss
from cai_lightning.models.adapters import lora
from cai_lightning.models.packing import texts

LOSS = partial(kto_loss, beta=0.5, desirable_weight=1.0, undesirable_weight=1.0)


def logp(policy, prompt, reply):
    ids = [*prompt, *reply]
    with torch.no_grad():
        every = policy(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(every[place - 1, ids[place]].item() for place in range(len(prompt), len(ids)))


ROWS = [UnpairedRow(str(i), [3 + i // 2, 4], [8 + i, 9 + i // 2, 1], (0.9, 0.1)[i % 2], 1.0 + i % 3) for i in range(8)]


def data(rows, *, batch_tokens=128, accumulate=1):
    plan = partial(length_buckets, multiple=4)
    given = {"plan": plan, "batch_tokens": batch_tokens, "route": "packed", "seed": 0}
    return UnpairedData(rows, [], accumulate=accumulate, kl=True, **given)


def module_of(policy, reference, recipe, loss=LOSS):
    return UnpairedModule(policy, loss=loss, live=Frozen(reference), **recipe)


def test_good_replies_gain_and_bad_ones_lose(llama, recipe, trainer):
    module, start = module_of(llama(), llama(), recipe), llama()
    fit(module, data(ROWS), epochs=20, **trainer)
    gains = [logp(module.policy, r.prompt, r.reply) - logp(start, r.prompt, r.reply) for r in ROWS]
    assert min(gains[::2]) > max(gains[1::2]) + 1


def test_in_half_precision_every_weight_has_a_gradient(llama, recipe, trainer):
    """The pass before, without a graph, must leave no weights behind that the next one reads."""
    module, missed = module_of(llama(), llama(seed=1), recipe), []

    class Watch(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):  # noqa: ARG002
            weights = pl_module.policy.named_parameters()
            missed.extend(name for name, weight in weights if weight.grad is None or not weight.grad.any())

    fit(module, data(ROWS), epochs=1, **trainer | {"precision": "bf16-mixed", "callbacks": [Watch()]})
    assert missed == []


def test_a_step_is_the_slow_sum_over_texts_and_the_kl_over_mismatched_ones(llama, recipe, step):
    """Another reference than the policy, so nothing is 0."""
    policy, reference = llama(), llama(seed=1)
    (batch,) = data(ROWS).train_dataloader()
    rows = [ROWS[number] for number in batch.rows.tolist()]
    (one,) = batch.mismatched
    mismatched = [one.packed.ids[places].tolist() for places in texts(one.packed)]
    assert [text[:2] for text in mismatched] == [row.prompt for row in rows]
    kl = sum(logp(policy, text[:2], text[2:]) - logp(reference, text[:2], text[2:]) for text in mismatched) / 8
    assert kl > 0.01
    module = module_of(policy, reference, recipe)
    loss = step(module, batch)
    (figures,) = module.log_dict.call_args.args
    assert figures["kl"].item() == pytest.approx(kl, abs=1e-4)
    total = 0.0
    for row in rows:
        gain = 0.5 * (logp(policy, row.prompt, row.reply) - logp(reference, row.prompt, row.reply) - kl)
        good, bad = (torch.sigmoid(torch.tensor(x)).item() for x in (-gain, gain))
        total += row.weight * (row.p_desirable * good + (1 - row.p_desirable) * bad)
    assert loss.item() == pytest.approx(total / sum(row.weight for row in rows), abs=1e-5)


def test_the_kl_has_no_gradient_and_no_dropout(llama, recipe, step):
    """With dropout the policy's own pass is another for every seed, its pass for the KL is not."""
    policy = llama()
    lora(policy, rank=4, alpha=8.0, dropout=0.5, targets=None, rslora=False, dora=False, merge=False, seed=0)
    for name, weight in policy.named_parameters():
        if weight.requires_grad and "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(0))
    module = UnpairedModule(policy, loss=LOSS, live=adapter_off, **recipe)
    module.train()
    (batch,) = data(ROWS).train_dataloader()
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        step(module, batch)
        (figures,) = module.log_dict.call_args.args
        found.append((figures["kl"].item(), figures["logps/policy"].item()))
    assert found[0][0] == found[1][0] and found[0][1] != found[1][1]
    assert policy.training


def test_a_step_of_one_row_has_the_kl_0(llama, recipe, step):
    (batch,) = data(ROWS[:1]).train_dataloader()
    module = module_of(llama(), llama(seed=1), recipe)
    step(module, batch)
    assert module.log_dict.call_args.args[0]["kl"].item() == 0
