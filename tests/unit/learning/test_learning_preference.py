import json
import math
from functools import partial

import pytest
import torch

from cai_lightning.data.batching import length_buckets
from cai_lightning.data.pairs import PairData, PairRow
from cai_lightning.learning.fit import fit
from cai_lightning.learning.guards import FirstLoss
from cai_lightning.learning.losses import cdpo_loss, dpo_loss, ipo_loss, robust_dpo_loss
from cai_lightning.learning.optim import warmup_linear
from cai_lightning.learning.preference import Frozen, PreferenceModule, adapter_off
from cai_lightning.learning.reference_free import orpo_loss, simpo_loss
from cai_lightning.learning.tracking import JsonlLogger
from cai_lightning.models.adapters import full, lora, names

LOSSES = [
    partial(dpo_loss, beta=0.1),
    partial(cdpo_loss, beta=0.1, label_smoothing=0.1),
    partial(ipo_loss, beta=0.1),
    partial(robust_dpo_loss, beta=0.1, flip_rate=0.1),
]
ALONE = [partial(simpo_loss, beta=2.0, gamma=1.0), partial(orpo_loss, odds_ratio_weight=0.5)]


def logp(policy, prompt, reply):
    ids = prompt + reply
    with torch.no_grad():
        every = policy(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(every[place - 1, ids[place]].item() for place in range(len(prompt), len(ids)))


def rows(policy, p_chosen=1.0):
    """Pairs of seven tokens: two of prompt, two and three of replies."""
    triples = [([3 + i, 4], [8 + i, 1], [9 + i, 10, 1]) for i in range(4)]
    return [
        PairRow(str(i), prompt, a, b, p_chosen, 1.0 + i, logp(policy, prompt, a), logp(policy, prompt, b))
        for i, (prompt, a, b) in enumerate(triples)
    ]


def data(pairs, *, validation=(), batch_tokens=128, accumulate=1):
    plan = partial(length_buckets, multiple=4)
    given = {"plan": plan, "batch_tokens": batch_tokens, "share": 1, "route": "packed", "seed": 0}
    return PairData(pairs, validation, accumulate=accumulate, **given)


def margins(policy, pairs):
    return [
        (logp(policy, row.prompt, row.chosen) - row.reference_chosen)
        - (logp(policy, row.prompt, row.rejected) - row.reference_rejected)
        for row in pairs
    ]


@pytest.mark.parametrize("loss", LOSSES, ids=["dpo", "cdpo", "ipo", "robust"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_four_pairs_are_learned(llama, recipe, trainer, loss, precision):
    pairs = rows(llama())
    module = PreferenceModule(llama(), loss=loss, live=None, **recipe)
    fit(module, data(pairs), epochs=20, **(trainer | {"precision": precision}))
    assert min(margins(module.policy, pairs)) > 3


@pytest.mark.parametrize("loss", ALONE, ids=["simpo", "orpo"])
def test_four_pairs_are_learned_without_a_reference(llama, recipe, trainer, loss):
    """Chosen replies become likelier than rejected ones, token by token; they were not."""
    pairs = [row._replace(reference_chosen=None, reference_rejected=None) for row in rows(llama())]
    module = PreferenceModule(llama(), loss=loss, live=None, **recipe)

    def leads():
        ends = [
            (logp(module.policy, row.prompt, row.chosen), logp(module.policy, row.prompt, row.rejected))
            for row in pairs
        ]
        return [chosen / 2 - rejected / 3 for chosen, rejected in ends]

    assert min(leads()) < 0.1
    fit(module, data(pairs), epochs=20, **trainer)
    assert min(leads()) > 1


def test_a_margin_moves_the_optimum_of_a_soft_label(llama, recipe, trainer):
    """For P = 0.75, beta 1 and an offset of 1 nat it is 1 + ln 3, and without the offset ln 3."""
    asked = (1.0, 1.0, 0.0, 0.0)
    pairs = [row._replace(margin=m) for row, m in zip(rows(llama(), p_chosen=0.75), asked, strict=True)]
    falling = partial(warmup_linear, warmup_steps=2, final_fraction=0.0)
    module = PreferenceModule(
        llama(), loss=partial(dpo_loss, beta=1.0), live=None, optimizer=recipe["optimizer"], schedule=falling
    )
    fit(module, data(pairs), epochs=60, **trainer)
    assert margins(module.policy, pairs) == pytest.approx([m + math.log(3) for m in asked], abs=0.05)


def test_accuracies_of_sources_are_logged_where_there_are_several(llama, recipe, trainer, tmp_path):
    pairs = [row._replace(source=int(number == 3)) for number, row in enumerate(rows(llama()))]
    written = {}
    for sources in (("ai",), ("ai", "human")):
        folder = tmp_path / str(len(sources))
        folder.mkdir()
        module = PreferenceModule(llama(), loss=LOSSES[0], live=None, sources=sources, **recipe)
        settings = trainer | {"loggers": [JsonlLogger(folder)]}
        fit(module, data(pairs, validation=pairs, batch_tokens=8), epochs=1, **settings)
        written[sources] = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    names = [f"rewards/accuracies/{name}" for name in ("ai", "human")]
    assert not [name for line in written["ai",] for name in names if name in line]
    # a pair a batch: one source has its accuracy, the other null; three pairs are the first one's
    found = [[line[name] for name in names] for line in written["ai", "human"] if names[0] in line]
    assert all(pair.count(None) == 1 for pair in found)
    assert [sum(pair[number] is not None for pair in found) for number in (0, 1)] == [3, 1]


def test_soft_labels_are_met_and_not_passed(llama, recipe, trainer):
    """DPO's optimum for P = 0.75 at beta 1 is the margin ln 3; IPO's is (0.75 - 0.5) / 1."""
    for loss, optimum in ((partial(dpo_loss, beta=1.0), math.log(3)), (partial(ipo_loss, beta=1.0), 0.25)):
        pairs = rows(llama(), p_chosen=0.75)
        falling = partial(warmup_linear, warmup_steps=2, final_fraction=0.0)
        module = PreferenceModule(llama(), loss=loss, live=None, optimizer=recipe["optimizer"], schedule=falling)
        fit(module, data(pairs), epochs=60, **trainer)
        assert margins(module.policy, pairs) == pytest.approx([optimum] * 4, abs=0.05)


WINDOWS = pytest.mark.parametrize(("batch_tokens", "accumulate"), [(128, 1), (8, 4), (16, 4)])


@WINDOWS
def test_the_first_loss_is_ln_2(llama, recipe, trainer, batch_tokens, accumulate):
    module = PreferenceModule(llama(), loss=LOSSES[0], live=None, **recipe)
    guard = FirstLoss(expected=lambda _: math.log(2), tolerance=1e-5)
    pairs = data(rows(llama()), batch_tokens=batch_tokens, accumulate=accumulate)
    fit(module, pairs, epochs=1, **(trainer | {"callbacks": [guard], "accumulate": accumulate}))


@WINDOWS
def test_a_foreign_reference_is_noticed(llama, recipe, trainer, batch_tokens, accumulate):
    module = PreferenceModule(llama(), loss=partial(dpo_loss, beta=1.0), live=None, **recipe)
    guard = FirstLoss(expected=lambda _: math.log(2), tolerance=1e-5)
    pairs = data(rows(llama(seed=1)), batch_tokens=batch_tokens, accumulate=accumulate)
    with pytest.raises(ValueError, match=r"the first loss is .*, not 0.693147: the reference"):
        fit(module, pairs, epochs=1, **(trainer | {"callbacks": [guard], "accumulate": accumulate}))


def test_accumulation_weighs_every_pair_by_its_weight(llama, recipe, trainer):
    ends = []
    for batch_tokens, accumulate in ((128, 1), (8, 4)):
        pairs = rows(llama())
        plain = recipe | {"optimizer": lambda module: torch.optim.SGD(module.parameters(), lr=0.1)}
        module = PreferenceModule(llama(), loss=LOSSES[0], live=None, **plain)
        split = data(pairs, batch_tokens=batch_tokens, accumulate=accumulate)
        assert len(split.train_dataloader()) == accumulate
        fit(module, split, epochs=2, **(trainer | {"accumulate": accumulate}))
        ends.append([p.detach().clone() for p in module.parameters()])
    assert all((a - b).abs().max() < 1e-6 for a, b in zip(*ends, strict=True))


def test_metrics_are_those_of_trl_and_equal_in_two_runs(llama, recipe, trainer, tmp_path):
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pairs = rows(llama())
        module = PreferenceModule(llama(), loss=LOSSES[0], live=None, **recipe)
        fit(
            module,
            data(pairs, validation=pairs, batch_tokens=16),
            epochs=2,
            **(trainer | {"loggers": [JsonlLogger(tmp_path / name)]}),
        )
        written.append((tmp_path / name / "metrics.jsonl").read_bytes())
    assert written[0] == written[1]
    names = {name for line in written[0].splitlines() for name in json.loads(line)}
    assert {"rewards/margins", "rewards/accuracies", "logps/chosen", "val/rewards/margins", "grad_norm"} <= names


def adapted(policy):
    lora(policy, rank=4, alpha=8.0, dropout=0.5, targets=None, rslora=False, dora=False, merge=False, seed=0)
    return policy


def reads(model):
    """How many tokens each pass through a model's second block sees from now on, and whether for a gradient."""
    seen = []

    def see(layer, given, output):
        del layer, output
        seen.append((given[0].shape[:-1].numel(), torch.is_grad_enabled()))

    model.model.layers[1].input_layernorm.register_forward_hook(see)
    return seen


@pytest.mark.parametrize("prepare", [lambda policy: (full(policy, seed=0), policy)[1], adapted], ids=["full", "lora"])
def test_a_live_reference_teaches_what_a_cached_one_does(llama, recipe, trainer, prepare):
    """Also beside dropout, which the reference must not have."""
    plain = recipe | {"optimizer": lambda module: torch.optim.SGD(module.parameters(), lr=0.1)}
    ends, cached = [], rows(llama())
    unknown = [row._replace(reference_chosen=None, reference_rejected=None) for row in cached]
    for pairs, live in ((cached, False), (unknown, True)):
        policy = prepare(llama())
        reference = (adapter_off if names(policy) else Frozen(llama())) if live else None
        module = PreferenceModule(policy, loss=LOSSES[0], live=reference, **plain)
        fit(module, data(pairs, batch_tokens=16), epochs=3, **trainer)
        ends.append(torch.cat([weight.detach().flatten() for weight in policy.parameters() if weight.requires_grad]))
        assert not names(policy) or policy.model.layers[0].self_attn.q_proj.active_adapters == ["trained"]
    assert (ends[0] - ends[1]).abs().max() < 1e-5


def test_a_cached_reference_is_read_once_a_pair_and_a_live_one_each_epoch(llama, recipe, trainer):
    """Four pairs of seven tokens in one batch, three epochs."""
    for live in (False, True):
        policy, model = llama(), llama()
        pairs = rows(model)
        for each in (policy, model):
            Frozen(each)(each, batch_of(pairs).packed)  # a model's first packed row is preceded by a trial
        policy.requires_grad_(True)
        learned, referred = reads(policy), reads(model)
        module = PreferenceModule(policy, loss=LOSSES[0], live=Frozen(model) if live else None, **recipe)
        fit(module, data(pairs), epochs=3, **trainer)
        assert learned == [(28, True)] * 3
        assert referred == [(28, False)] * 3 * live


def batch_of(pairs):
    (batch,) = data(pairs).train_dataloader()
    return batch


def test_an_adapter_that_is_its_own_reference_is_read_twice_a_step(llama, recipe, trainer):
    policy = adapted(llama())
    adapter_off(policy, batch_of(rows(llama())).packed)
    seen = reads(policy)
    module = PreferenceModule(policy, loss=LOSSES[0], live=adapter_off, **recipe)
    fit(module, data(rows(llama())), epochs=2, **trainer)
    assert seen == [(28, True), (28, False)] * 2


def test_a_live_reference_starts_at_ln_2_whatever_comes_with_the_pairs(llama, recipe, trainer):
    guard = FirstLoss(expected=lambda _: math.log(2), tolerance=1e-5)
    for policy, live in ((llama(), Frozen(llama())), (adapted(llama()), adapter_off)):
        module = PreferenceModule(policy, loss=LOSSES[0], live=live, **recipe)
        fit(module, data(rows(llama(seed=1))), epochs=1, **(trainer | {"callbacks": [guard]}))
