from functools import partial

import pytest
import torch

from cai_lightning.learning.advantages import AdaptiveKL, FixedKL
from cai_lightning.learning.fit import fit
from cai_lightning.learning.ppo import PPOModule, RolloutBatch
from cai_lightning.learning.rollouts import Collector, RolloutLoader, RolloutPrompt, draw, select
from cai_lightning.learning.scaling import raw
from cai_lightning.learning.snapshots import Snapshots
from cai_lightning.models.format import Format
from cai_lightning.models.logprobs import response_logprobs
from cai_lightning.text.dialogue import human

PROMPTS = [human("a"), human("b c d"), human("c b")]


def rewards_for(letter):
    """1 for a reply that starts with the letter."""
    return lambda _, replies: [float(reply.startswith(letter)) for reply in replies]


@pytest.fixture
def ppo(llama, recipe, tokenizer):
    """A function that builds learner, collector and loader; keyword arguments replace the collector's."""

    def build(policy=None, **changes):
        policy = llama() if policy is None else policy
        module = PPOModule(policy, temperature=1.0, clip_range=0.2, value_clip=0.2, vf_coef=0.1, **recipe)
        ids = Format(tokenizer).prompt_ids(PROMPTS)
        prompts = [RolloutPrompt(str(i), *row) for i, row in enumerate(zip(PROMPTS, ids, strict=True))]
        settings = {
            "module": module,
            "reference": partial(response_logprobs, llama(), temperature=1.0),
            "prompts": prompts,
            "tokenizer": tokenizer,
            "score": rewards_for("a"),
            "transform": raw,
            "scaling": raw,
            "kl": FixedKL(kl_coef=0.0),
            "observe": lambda *_: None,
            "rollouts": 32,
            "sample_rows": 32,
            "forward_rows": 8,
            "multiple": 4,
            "max_new_tokens": 1,
            "temperature": 1.0,
            "missing_eos_penalty": 0.0,
            "gamma": 1.0,
            "lam": 0.95,
            "seed": 0,
        }
        collect = Collector(**(settings | changes))
        loader = RolloutLoader(
            module, collect, rollouts=collect.rollouts, minibatch=16, ppo_epochs=2, multiple=4, seed=0
        )
        return module, collect, loader

    return build


def p_first_letter(policy, tokenizer, letter):
    with torch.no_grad():
        ids = torch.tensor(Format(tokenizer).prompt_ids(PROMPTS[:1]))
        return policy(ids).logits[0, -1].softmax(-1)[tokenizer.convert_tokens_to_ids(f" {letter}")].item()


def test_a_bandit_is_solved(ppo, trainer, tokenizer):
    module, collect, loader = ppo()
    assert p_first_letter(module.policy, tokenizer, "a") < 0.2
    fit(module, loader, epochs=15, **trainer)
    assert p_first_letter(module.policy, tokenizer, "a") > 0.9
    assert collect.history[-1]["objective/scores"] > 0.9


def test_a_strong_pull_to_the_reference_keeps_the_policy_there(ppo, trainer):
    free, free_collect, loader = ppo()
    fit(free, loader, epochs=8, **trainer)
    held, held_collect, loader = ppo(kl=FixedKL(kl_coef=5.0))
    fit(held, loader, epochs=8, **trainer)
    assert held_collect.history[-1]["objective/kl_k3"] < 0.1 * free_collect.history[-1]["objective/kl_k3"]


def test_every_epoch_collects_once_from_the_policy_as_it_is(ppo, trainer):
    module, collect, _ = ppo()
    seen = []

    def counting(iteration):
        seen.append((iteration, module.trainer.global_step, module.training))
        return collect(iteration)

    loader = RolloutLoader(module, counting, rollouts=32, minibatch=16, ppo_epochs=2, multiple=4, seed=0)
    fit(module, loader, epochs=3, **trainer)
    # 32 rows in minibatches of 16, twice: four steps an iteration
    assert seen == [(0, 0, True), (1, 4, True), (2, 8, True)]
    assert len(loader) == 4


def test_the_first_ratio_is_one_and_the_first_kl_zero(ppo, trainer):
    """At step 0 policy = sampler = reference, whatever the chunking and padding of either forward pass."""
    module, collect, loader = ppo(max_new_tokens=5, forward_rows=5)
    ratios = []
    original = module.training_step

    def watched(batch, batch_idx):
        if not ratios:
            logps, _ = module(batch.input_ids, batch.mask)
            ratios.append((logps - batch.old_logps).exp()[batch.mask].detach())
        return original(batch, batch_idx)

    module.training_step = watched
    fit(module, loader, epochs=1, **trainer)
    assert ratios[0].sub(1).abs().max() < 1e-5
    assert collect.history[0]["objective/kl"] == pytest.approx(0, abs=1e-5)
    assert collect.history[0]["val/values"] == 0.0


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_two_runs_end_in_equal_bits(ppo, trainer, precision):
    weights = []
    for _ in range(2):
        module, _, loader = ppo(max_new_tokens=4)
        fit(module, loader, epochs=2, **(trainer | {"precision": precision}))
        weights.append([p.detach().clone() for p in module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_the_batch_of_the_sampler_changes_no_reply(ppo, trainer):
    replies = []
    for rows in (32, 3):
        module, _, loader = ppo(sample_rows=rows, max_new_tokens=5, observe=lambda *seen: replies.append(seen[2]))
        fit(module, loader, epochs=1, **trainer)
    assert replies[0] == replies[1]


def test_cut_replies_are_counted_and_punished(ppo, trainer, llama):
    """A policy that never ends: every reply is cut, and its reward is the score less the penalty."""
    policy = llama()
    # a forward hook sees (layer, inputs, output); what it returns is the output
    policy.get_output_embeddings().register_forward_hook(lambda *seen: seen[2].index_fill(-1, torch.tensor([1]), -50.0))
    module, collect, loader = ppo(
        policy, max_new_tokens=3, missing_eos_penalty=2.0, score=lambda prompts, _: [0.5] * len(prompts)
    )
    fit(module, loader, epochs=1, **trainer)
    first = collect.history[0]
    assert first["eos_rate"] == 0
    assert first["completions/mean_length"] == 3
    assert first["objective/scores"] == 0.5
    # gamma = 1 and values 0: the return of the last step is the reward, and kl_coef is 0
    assert first["objective/rlhf_reward"] == pytest.approx(-1.5)


def test_the_value_head_learns_a_constant_return(ppo, trainer):
    module, collect, loader = ppo(max_new_tokens=3, score=lambda prompts, _: [0.5] * len(prompts))
    fit(module, loader, epochs=12, **trainer)
    assert collect.history[-1]["val/values"] == pytest.approx(0.5, abs=0.1)


def test_the_kl_coefficient_moves_between_iterations(ppo, trainer):
    module, collect, loader = ppo(kl=AdaptiveKL(kl_coef=0.1, target=6.0, horizon=320))
    fit(module, loader, epochs=2, **trainer)
    # kl = 0 at first, far under the target: the error is clipped to -20 %, so 0.1 * (1 - 0.2 * 32 / 320)
    assert collect.history[1]["objective/kl_coef"] == pytest.approx(0.098)


def test_a_reward_that_is_no_number_stops_with_the_prompt(ppo, trainer):
    module, _, loader = ppo(score=lambda prompts, _: [0.0] * (len(prompts) - 1) + [float("nan")])
    with pytest.raises(ValueError, match=r"the reward of a reply to prompt '\d' is nan"):
        fit(module, loader, epochs=1, **trainer)


def test_snapshots_are_taken_after_the_iterations_named(ppo, trainer):
    module, _, loader = ppo()
    taken = []
    snapshots = Snapshots([1, 3], lambda iteration, policy: taken.append((iteration, policy.training)))
    fit(module, loader, epochs=3, **(trainer | {"callbacks": [snapshots]}))
    assert taken == [(1, False), (3, False)]


def test_prompts_come_in_shuffled_passes():
    passes = [number for iteration in range(6) for number in draw(4, 6, seed=1, iteration=iteration)]
    for start in range(0, 36, 4):
        assert sorted(passes[start : start + 4]) == [0, 1, 2, 3]
    assert passes != sorted(passes)
    assert draw(4, 6, seed=1, iteration=3) == draw(4, 6, seed=1, iteration=3)


def test_minibatches_lose_pads_only():
    mask = torch.tensor([[0, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1, 1]], dtype=torch.bool)
    steps = torch.arange(14.0).view(2, 7)
    batch = RolloutBatch(torch.arange(16).view(2, 8), mask, *[steps] * 4, torch.arange(2))
    short = select(batch, [0], multiple=2)
    # the last reply token is number 3, so four tokens and three steps remain
    assert short.input_ids.tolist() == [[0, 1, 2, 3]]
    assert short.advantages.tolist() == [[0.0, 1.0, 2.0]]
    assert select(batch, [1, 0], multiple=2).input_ids.shape == (2, 8)
    assert select(batch, [1, 0], multiple=2).rows.tolist() == [1, 0]


def test_minibatches_must_fill_the_collection(ppo):
    module, collect, _ = ppo()
    with pytest.raises(ValueError, match=r"rollouts \(32\) must be a multiple of minibatch \(12\)"):
        RolloutLoader(module, collect, rollouts=32, minibatch=12, ppo_epochs=1, multiple=4, seed=0)
