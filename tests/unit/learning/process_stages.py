"""Small fits as one stage, for tests that run it in several processes."""

import os
from functools import partial
from pathlib import Path

import torch
from lightning.pytorch import Callback
from safetensors.torch import save_file

from cai_lightning.data.batching import length_buckets
from cai_lightning.data.pairs import PairData, PairRow
from cai_lightning.data.sft import SFTData, SFTRow
from cai_lightning.data.unpaired import UnpairedData, UnpairedRow
from cai_lightning.learning.advantages import AdaptiveKL, generalised, group_normalised, leave_one_out
from cai_lightning.learning.checkpoints import Checkpoints
from cai_lightning.learning.combining import mean
from cai_lightning.learning.losses import dpo_loss
from cai_lightning.learning.optim import adamw, constant
from cai_lightning.learning.policy_losses import by_reply, by_token
from cai_lightning.learning.ppo import PPOModule
from cai_lightning.learning.preference import Frozen, PreferenceModule, adapter_off
from cai_lightning.learning.reward_model import RewardModule
from cai_lightning.learning.rollout_loader import RolloutLoader
from cai_lightning.learning.rollouts import Collector, RolloutPrompt
from cai_lightning.learning.scaling import RunningWhiten
from cai_lightning.learning.sft import SFTModule
from cai_lightning.learning.tracking import METRICS, JsonlLogger
from cai_lightning.learning.transforms import unchanged
from cai_lightning.learning.unpaired import UnpairedModule
from cai_lightning.learning.unpaired_losses import kto_loss
from cai_lightning.models.adapters import full, lora
from cai_lightning.models.causal import load_tokenizer, new_llama
from cai_lightning.models.format import Format
from cai_lightning.models.logprobs import token_logprobs
from cai_lightning.models.packing import places
from cai_lightning.models.reward import reward_from_causal
from cai_lightning.stages.session import is_first
from cai_lightning.text.dialogue import human

RECIPE = {
    "optimizer": partial(adamw, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01),
    "schedule": partial(constant, warmup_steps=2),
}
BATCHES = {"plan": partial(length_buckets, multiple=4), "batch_tokens": 24, "route": "packed", "seed": 0}
LENGTHS = (4, 4, 7, 8, 10, 12, 5, 9, 12, 11)


def cases(out: Path, *, fit, accumulate: int, policy: Path) -> None:
    """Every kind of module, one after the other; `out/<case>` has its weights and its metrics."""
    torch.set_num_threads(1)
    sft = SFTData(rows(), [], accumulate=accumulate, **BATCHES)
    pairs = PairData(pair_rows(), [], accumulate=accumulate, share=1, **BATCHES)
    assert len(sft.train_dataloader()) % 2, "two processes must share the batches unevenly"
    tied, untied, preferring, adapted, mixed = (llama(tie=name != "untied") for name in ("", "untied", "", "", ""))
    lora(adapted, rank=2, alpha=8, dropout=0.5, targets=None, rslora=False, dora=False, merge=True, seed=0)
    reward, _ = reward_from_causal(
        policy, marker=None, mean=True, gain=1.0, head_std=0.1, dtype="float32", adapter=full, seed=0
    )
    one(out / "tied", SFTModule(tied, **RECIPE), sft, fit, tied)
    one(out / "untied", SFTModule(untied, **RECIPE), sft, fit, untied)
    again = partial(fit, checkpoint_activations=True)
    one(out / "adapter", SFTModule(adapted, **RECIPE), sft, again, adapted)
    one(out / "reward", RewardModule(reward, centre_coef=0.01, **RECIPE), pairs, fit, reward)
    dpo = PreferenceModule(preferring, loss=partial(dpo_loss, beta=0.5), live=None, **RECIPE)
    one(out / "dpo", dpo, pairs, fit, preferring)
    rate(out, fit, accumulate)
    one(out / "mixed", SFTModule(mixed, **RECIPE), sft, partial(fit, precision="bf16-mixed"), mixed)


def halves(lengths, *, batch_tokens, seed, epoch):  # noqa: ARG001
    """All rows in two batches of unlike rows, which one step is made of."""
    return [list(range(0, len(lengths), 3)), [number for number in range(len(lengths)) if number % 3]]


def descent(module):
    return torch.optim.SGD([weight for weight in module.parameters() if weight.requires_grad], lr=1.0)


def steps(out: Path, *, fit, accumulate: int, policy: Path) -> None:
    """One step of plain gradient descent of length 1 of every kind; `out/<case>` has the weights before and after."""
    torch.set_num_threads(1)
    recipe = RECIPE | {"optimizer": descent, "schedule": partial(constant, warmup_steps=0)}
    batches = BATCHES | {"plan": halves, "accumulate": accumulate}
    pairs = PairData(pair_rows(), [], share=1, **batches)
    reward, _ = reward_from_causal(
        policy, marker=None, mean=True, gain=1.0, head_std=0.1, dtype="float32", adapter=full, seed=0
    )
    told, preferring, rating = llama(tie=True), llama(tie=True), llama(tie=True)
    kto = partial(kto_loss, beta=0.5, desirable_weight=1.5, undesirable_weight=1.0)
    for name, module, data, model in (
        ("sft", SFTModule(told, **recipe), SFTData(rows(), [], **batches), told),
        ("reward", RewardModule(reward, centre_coef=0.01, **recipe), pairs, reward),
        ("dpo", PreferenceModule(preferring, loss=partial(dpo_loss, beta=0.5), live=None, **recipe), pairs, preferring),
        (
            "kto",
            UnpairedModule(rating, loss=kto, live=Frozen(llama(tie=True, seed=1)), **recipe),
            UnpairedData(rated_rows(), [], kl=True, **batches),
            rating,
        ),
    ):
        before = {key: weight.detach().clone() for key, weight in model.named_parameters()}
        one(out / name, module, data, fit, model)
        if is_first():
            save_file(before, out / name / "before")


def rate(out: Path, fit, accumulate: int) -> None:
    """KTO of every weight beside another reference, and of an adapter; one batch has one row."""
    loss = partial(kto_loss, beta=0.5, desirable_weight=1.5, undesirable_weight=1.0)
    data = UnpairedData(rated_rows(), [], accumulate=accumulate, kl=True, **BATCHES)
    assert len(data.train_dataloader()) % 2 and 1 in {len(batch.rows) for batch in data.train_dataloader()}
    whole, adapted = llama(tie=True), llama(tie=True)
    lora(adapted, rank=2, alpha=8, dropout=0.0, targets=None, rslora=False, dora=False, merge=True, seed=0)
    for name, policy, live in (("kto", whole, Frozen(llama(tie=True, seed=1))), ("kto adapter", adapted, adapter_off)):
        one(out / name, UnpairedModule(policy, loss=loss, live=live, **RECIPE), data, fit, policy)


class Kill(Callback):
    """Ends the fit of every process after so many steps."""

    def __init__(self, after) -> None:
        self.after = after

    def on_train_batch_start(self, trainer, *_) -> None:
        if trainer.global_step == self.after:
            raise RuntimeError("killed")


def kept(out: Path, *, fit, killed, policy: Path) -> None:
    """A fit with dropout and one of a reward model, kept after every step; one may be killed after three."""
    torch.set_num_threads(1)
    adapted = llama(tie=True)
    lora(adapted, rank=2, alpha=8, dropout=0.5, targets=None, rslora=False, dora=False, merge=True, seed=0)
    reward, _ = reward_from_causal(
        policy, marker=None, mean=True, gain=1.0, head_std=0.1, dtype="float32", adapter=full, seed=0
    )
    sft = SFTData(rows(), [], accumulate=1, **BATCHES)
    pairs = PairData(pair_rows(), [], accumulate=1, share=1, **BATCHES)
    work = Path(os.environ["CAI_CHECKPOINTS"])
    for name, module, data, model in (
        ("adapter", SFTModule(adapted, **RECIPE), sft, adapted),
        ("reward", RewardModule(reward, centre_coef=0.01, **RECIPE), pairs, reward),
    ):
        place = out / name
        place.mkdir(exist_ok=True)
        checkpoints = Checkpoints(work / name, share=1e9, kept={}, journals=[place / METRICS], first=is_first())
        extra = [Kill(3)] if name == killed else []
        loggers = [JsonlLogger(place)]
        fit(module, data, seed=0, accelerator="cpu", loggers=loggers, callbacks=extra, checkpoints=checkpoints)
        if is_first():
            save_file({name: weight.detach().clone() for name, weight in model.named_parameters()}, place / "weights")


def one(out: Path, module, data, fit, model) -> None:
    out.mkdir()
    fit(module, data, seed=0, accelerator="cpu", loggers=[JsonlLogger(out)], callbacks=[])
    if is_first():
        save_file({name: weight.detach().clone() for name, weight in model.named_parameters()}, out / "weights")


def llama(*, tie, seed=0):
    return new_llama(
        vocab_size=16,
        hidden_size=32,
        layers=2,
        heads=2,
        intermediate_size=64,
        max_positions=64,
        tie=tie,
        pad_id=0,
        eos_id=1,
        seed=seed,
    )


def rows() -> list[SFTRow]:
    return [SFTRow([3 + i, *range(4, 2 + n), 1], [0.0, *[1.0] * (n - 1)]) for i, n in enumerate(LENGTHS)]


def pair_rows() -> list[PairRow]:
    return [
        PairRow(str(i), [3], [*range(4, 2 + n), 1], [*range(5, 3 + n), 1], 0.9, 1.0 + i % 3, -3.0, -4.0)
        for i, n in enumerate(LENGTHS)
    ]


def rated_rows() -> list[UnpairedRow]:
    return [
        UnpairedRow(str(i), [3 + i // 2], [*range(4, 2 + n), 1], 0.9 - 0.08 * i, 1.0 + i % 3)
        for i, n in enumerate(LENGTHS)
    ]


def on_policy(out: Path, *, fit, policy: Path) -> None:
    """PPO, RLOO and GRPO, one after the other; `out/<case>` has weights, metrics and the replies that were seen."""
    torch.set_num_threads(1)
    words = load_tokenizer(policy)
    four = {"samples": 4, "learned": {"vf_coef": 0.0}}
    cases = {
        "ppo": {"estimator": partial(generalised, gamma=1.0, lam=0.9), "samples": 2, "minibatch": 8, "learned": {}},
        "rloo": {"estimator": leave_one_out, "minibatch": 16, "others": another, **four},
        "grpo": {
            "estimator": partial(group_normalised, scaled=True),
            "minibatch": 8,
            "samples": 4,
            "learned": {"vf_coef": 0.0, "kl_loss_coef": 0.1, "entropy_coef": 0.01, "weigh": by_reply},
        },
    }
    for name, changes in cases.items():
        place = out / name
        place.mkdir()
        learner = llama(tie=True)
        module, loader, replies = rollouts(learner, words, **changes)
        fit(module, loader, seed=0, accelerator="cpu", loggers=[JsonlLogger(place)], callbacks=[])
        if is_first():
            save_file({key: weight.detach().clone() for key, weight in module.named_parameters()}, place / "weights")
            (place / "replies").write_text("\n".join(replies))


def another(_, replies) -> dict[str, list[float]]:
    """A second reward model."""
    return {"other": [0.3 * reply.count("c") for reply in replies]}


def rollouts(policy, words, *, estimator, samples, minibatch, learned, others=None):
    """A learner, its loader, and a list of the replies that it will have seen."""
    plain = {"vf_coef": 0.1, "kl_loss_coef": 0.0, "entropy_coef": 0.0, "weigh": by_token}
    settings = {"temperature": 1.0, "clip_range": 0.2, "value_clip": 0.2}
    module = PPOModule(policy, **settings, **plain | learned, **RECIPE)
    asked = [human("a"), human("b c d"), human("c b")]
    prompts = [
        RolloutPrompt(str(i), *row) for i, row in enumerate(zip(asked, Format(words).prompt_ids(asked), strict=True))
    ]
    frozen, seen = llama(tie=True), []
    collect = Collector(
        module=module,
        reference=lambda packed: token_logprobs(frozen, packed, places(packed), temperature=1.0),
        prompts=prompts,
        tokenizer=words,
        score=lambda _, replies: [float(reply.count("a")) - 0.1 * len(reply) for reply in replies],
        others=others,
        combine=mean,
        heldout=lambda _, replies: [float(reply.startswith("b")) for reply in replies],
        transform=unchanged,
        scaling=RunningWhiten(momentum=0.5),
        estimator=estimator,
        kl=AdaptiveKL(kl_coef=0.1, target=0.5, horizon=64),
        observe=lambda *given: seen.extend(given[2]),
        rollouts=16,
        samples=samples,
        sample_rows=16,
        forward_rows=16,
        once=minibatch == 16,
        route="packed",
        max_new_tokens=5,
        temperature=1.0,
        missing_eos_penalty=0.5,
        seed=0,
    )
    epochs = 1 if minibatch == 16 else 2
    loader = RolloutLoader(
        module, collect, rollouts=16, samples=samples, minibatch=minibatch, ppo_epochs=epochs, route="packed", seed=0
    )
    return module, loader, seen
