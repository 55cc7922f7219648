import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from cai_lightning.learning.advantages import AdaptiveKL, FixedKL, generalised, group_normalised, leave_one_out
from cai_lightning.learning.combining import mean
from cai_lightning.learning.fit import fit
from cai_lightning.learning.optim import constant
from cai_lightning.learning.policy_losses import by_length, by_reply, by_token
from cai_lightning.learning.ppo import PPOModule
from cai_lightning.learning.rollout_loader import RolloutLoader, Rollouts, select
from cai_lightning.learning.rollouts import Collector, RolloutPrompt, draw
from cai_lightning.learning.scaling import raw
from cai_lightning.learning.snapshots import Snapshots
from cai_lightning.learning.transforms import unchanged
from cai_lightning.models.format import Format
from cai_lightning.models.logprobs import token_logprobs
from cai_lightning.models.packing import Tree, pack, places, texts
from cai_lightning.text.dialogue import human

PROMPTS = [human("a"), human("b c d"), human("c b")]


def rewards_for(letter):
    """1 for a reply that starts with the letter."""
    return lambda _, replies: [float(reply.startswith(letter)) for reply in replies]


def logps_of(policy):
    """A reference: the log-probabilities of all branches' tokens."""
    return lambda packed: token_logprobs(policy, packed, places(packed), temperature=1.0)


@pytest.fixture
def ppo(llama, recipe, tokenizer):
    """A function that builds learner, collector and loader; further keyword arguments replace the collector's."""

    def build(policy=None, minibatch=16, learned=None, ppo_epochs=2, **changes):
        policy = llama() if policy is None else policy
        coefficients = {"vf_coef": 0.1, "kl_loss_coef": 0.0, "entropy_coef": 0.0, "weigh": by_token} | (learned or {})
        module = PPOModule(policy, temperature=1.0, clip_range=0.2, value_clip=0.2, **(recipe | coefficients))
        ids = Format(tokenizer).prompt_ids(PROMPTS)
        prompts = [RolloutPrompt(str(i), *row) for i, row in enumerate(zip(PROMPTS, ids, strict=True))]
        settings = {
            "module": module,
            "reference": logps_of(llama()),
            "prompts": prompts,
            "tokenizer": tokenizer,
            "score": rewards_for("a"),
            "others": None,
            "combine": mean,
            "heldout": None,
            "transform": unchanged,
            "scaling": raw,
            "kl": FixedKL(kl_coef=0.0),
            "observe": lambda *_: None,
            "rollouts": 32,
            "samples": 1,
            "sample_rows": 32,
            "forward_rows": 8,
            "once": False,
            "route": "packed",
            "max_new_tokens": 1,
            "temperature": 1.0,
            "missing_eos_penalty": 0.0,
            "estimator": partial(generalised, gamma=1.0, lam=0.95),
            "seed": 0,
        }
        collect = Collector(**(settings | changes))
        return module, collect, loader_of(collect, minibatch=minibatch, ppo_epochs=ppo_epochs)

    return build


def loader_of(collect, call=None, **changes):
    """The loader of a collector, or of a function in its place."""
    shared = {name: getattr(collect, name) for name in ("rollouts", "samples", "route")}
    given = shared | {"minibatch": 16, "ppo_epochs": 2, "seed": 0} | changes
    return RolloutLoader(collect.module, call or collect, **given)


def watched(module, see):
    """Shows each training batch to `see` before it is learned; the step itself."""
    step = module.training_step

    def training_step(batch, batch_idx):
        see(batch)
        return step(batch, batch_idx)

    module.training_step = training_step
    return step


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

    loader = loader_of(collect, counting)
    fit(module, loader, epochs=3, **trainer)
    # 32 rows in minibatches of 16, twice: four steps an iteration
    assert seen == [(0, 0, True), (1, 4, True), (2, 8, True)]
    assert len(loader) == 4


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("samples", [1, 4])
def test_replies_learned_from_once_all_together_are_read_once(ppo, trainer, monkeypatch, samples, precision):
    """The pass that makes the old log-probabilities learns: as a second pass would, but for the order of rows."""
    weights, passes = {}, {}
    for once in (False, True):
        # as many rows together in the first pass as in the one that learns
        module, collect, _ = ppo(max_new_tokens=5, samples=samples, once=once, forward_rows=32)
        loader = loader_of(collect, minibatch=32, ppo_epochs=1)
        calls, read = [], module._read
        monkeypatch.setattr(module, "_read", lambda packed, calls=calls, read=read: calls.append(1) or read(packed))
        fit(module, loader, epochs=3, **trainer | {"precision": precision})
        passes[once] = len(calls)
        weights[once] = torch.cat([weight.detach().flatten() for weight in module.parameters()])
    assert passes == {False: 6, True: 3}
    moved = torch.cat([weight.flatten() for weight in ppo()[0].parameters()])
    assert (weights[True] - moved).norm() > 100 * (weights[True] - weights[False]).norm()


@pytest.mark.parametrize("route", ["packed", "padded"])
@pytest.mark.parametrize("samples", [1, 4])
def test_the_first_ratio_is_one_and_the_first_kl_zero(ppo, trainer, samples, route):
    """At step 0 policy = sampler = reference, whatever rows are read together in either forward pass."""
    module, collect, loader = ppo(max_new_tokens=5, forward_rows=5, samples=samples, route=route)
    ratios = []

    def see(batch):
        if not ratios:
            logps, *_ = module(batch.packed)
            ratios.append((logps - batch.old_logps[batch.mask]).exp().detach())

    watched(module, see)
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


def test_of_several_processes_the_first_takes_snapshots():
    taken, module = [], SimpleNamespace(policy=torch.nn.Identity())
    snapshots = Snapshots([1], lambda iteration, _: taken.append(iteration))
    snapshots.on_train_epoch_end(SimpleNamespace(current_epoch=0, is_global_zero=False), module)
    assert taken == []
    snapshots.on_train_epoch_end(SimpleNamespace(current_epoch=0, is_global_zero=True), module)
    assert taken == [1]


@pytest.mark.parametrize("weigh", [by_token, by_reply, partial(by_length, length=3)], ids=["token", "reply", "length"])
def test_a_step_is_the_same_however_many_minibatches_make_it(ppo, trainer, weigh):
    """Replies of 1 to 5 tokens: 1 x 32 = 4 x 8 = 16 x 2, of one step of plain gradient descent of length 1."""
    moved = {}
    for minibatch in (32, 8, 2):
        learned = {"weigh": weigh, "entropy_coef": 0.1, "optimizer": lambda m: torch.optim.SGD(m.parameters(), lr=1.0)}
        learned["schedule"] = partial(constant, warmup_steps=0)
        module, _, loader = ppo(minibatch=minibatch, learned=learned, ppo_epochs=1, max_new_tokens=5)
        before = [weight.detach().clone() for weight in module.parameters()]
        fit(module, loader, epochs=1, **trainer | {"accumulate": 32 // minibatch, "clip": 1e9})
        after = zip(module.parameters(), before, strict=True)
        moved[minibatch] = torch.cat([(weight.detach() - was).flatten() for weight, was in after])
    whole = moved[32]
    assert whole.norm() > 1e-3
    for parts in (moved[8], moved[2]):
        assert (parts - whole).norm() <= 1e-5 * whole.norm()


def test_an_iteration_ends_with_a_whole_step(ppo, trainer):
    module, _, loader = ppo(minibatch=16)
    with pytest.raises(ValueError, match="accumulate: 3 does not divide the 4 minibatches of an iteration"):
        fit(module, loader, epochs=1, **trainer | {"accumulate": 3})


def test_prompts_come_in_shuffled_passes():
    passes = [number for iteration in range(6) for number in draw(4, 6, seed=1, iteration=iteration)]
    for start in range(0, 36, 4):
        assert sorted(passes[start : start + 4]) == [0, 1, 2, 3]
    assert passes != sorted(passes)
    assert draw(4, 6, seed=1, iteration=3) == draw(4, 6, seed=1, iteration=3)


@pytest.fixture
def collected():
    """Two prompts, of two and of one token, with two replies each; step n of reply r has the figure 5 r + n."""
    trees = [Tree([5, 6], [[7, 8], [7]]), Tree([5], [[9, 10, 11, 12, 1], [9, 1, 2]])]
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool)
    return Rollouts(trees, mask, *[torch.arange(20.0).view(4, 5)] * 5)


def test_minibatches_are_whole_prompts_cut_to_their_longest_reply(collected):
    short = select(collected, [0], samples=2, route="packed", tokens=torch.tensor(3.0))
    # two replies of two and one token behind the prompt of two
    assert sorted(short.packed.ids.tolist()) == [5, 6, 7, 7, 8] and short.rows.tolist() == [0, 1]
    assert short.mask.int().tolist() == [[1, 1], [1, 0]]
    assert short.advantages.tolist() == short.old_logps.tolist() == [[0.0, 1.0], [5.0, 6.0]]


def test_replies_of_a_minibatch_stand_in_the_order_of_their_rows(collected):
    whole = select(collected, [0, 1], samples=2, route="padded", tokens=torch.tensor(11.0))
    # the shorter prompt comes first
    assert whole.rows.tolist() == [2, 3, 0, 1] and whole.packed.route == "padded"
    replies = [whole.packed.ids[start:stop].tolist() for start, stop in whole.packed.branches.tolist()]
    assert replies == [[9, 10, 11, 12, 1], [9, 1, 2], [7, 8], [7]]
    assert whole.mask.sum(1).tolist() == [5, 3, 2, 1]
    assert whole.returns[:, 0].tolist() == [10.0, 15.0, 0.0, 5.0]


def test_minibatches_must_fill_the_collection(ppo):
    _, collect, _ = ppo()
    with pytest.raises(ValueError, match=r"rollouts \(32\) must be a multiple of minibatch \(12\)"):
        loader_of(collect, minibatch=12)
    with pytest.raises(ValueError, match=r"minibatch \(16\), and that of samples \(3\)"):
        loader_of(collect, samples=3)
    assert len(loader_of(collect, samples=16, minibatch=16)) == 4


def test_minibatches_keep_the_replies_to_a_prompt_together(ppo, trainer):
    module, _, loader = ppo(samples=4, minibatch=8, max_new_tokens=3)
    seen = []
    watched(module, lambda batch: seen.append(batch.rows.tolist()))
    fit(module, loader, epochs=1, **trainer)
    # twice over the 32 replies, in minibatches of two prompts with four replies each
    assert len(seen) == len(loader) == 8
    for epoch in (seen[:4], seen[4:]):
        assert sorted(row for rows in epoch for row in rows) == list(range(32))
    for rows in seen:
        for four in (rows[:4], rows[4:]):
            assert four[0] % 4 == 0 and four == list(range(four[0], four[0] + 4))
    assert seen[:4] != seen[4:]


def test_replies_to_one_prompt_are_drawn_apart(ppo, trainer):
    module, _, loader = ppo(samples=4, max_new_tokens=5, observe=lambda *given: seen.append(given[1:3]))
    seen = []
    fit(module, loader, epochs=1, **trainer)
    ((prompts, replies),) = seen
    groups = [(prompts[at : at + 4], replies[at : at + 4]) for at in range(0, 32, 4)]
    assert all(len({prompt.id for prompt in asked}) == 1 for asked, _ in groups)
    assert sum(len(set(drawn)) > 1 for _, drawn in groups) > 6


def test_a_prompt_is_read_once_for_four_replies(ppo, trainer, llama):
    """Counted in tokens that a linear layer sees: by the sampler, by both models' scoring, and by each minibatch."""
    read = {}
    policy, reference = llama(), llama()
    for name, model in (("policy", policy), ("reference", reference)):
        logps_of(model)(pack([Tree([3], [[4]])]))  # a model's first packed row is preceded by a trial
        layer = model.model.layers[1].mlp.up_proj
        layer.register_forward_hook(lambda _, given, __, name=name: read[name].append(given[0].shape[:-1].numel()))
    # 12 replies of one token, which needs no step of decoding
    module, _, loader = ppo(policy, reference=logps_of(reference), rollouts=12, samples=4, minibatch=4)
    read.update(policy=[], reference=[])
    fit(module, loader, epochs=1, **trainer)
    # each of three prompts is drawn once: 3, 5 and 4 tokens, 4 more with its replies. Forward in parts of 8 rows
    assert sum(read["reference"]) == 12 + 12 and len(read["reference"]) == 2
    sampled, scored, learned = read["policy"][:1], read["policy"][1:3], read["policy"][3:]
    assert sampled == [12] and sum(scored) == 12 + 12
    assert sorted(learned) == [7, 7, 8, 8, 9, 9]


def test_replies_learn_alike_whether_they_share_their_prompt_or_not(ppo, trainer):
    """Loss and gradient of one minibatch, its prompts once and repeated for each reply."""
    batches = []
    module, _, loader = ppo(samples=4, max_new_tokens=5)
    step = watched(module, batches.append)
    fit(module, loader, epochs=2, **trainer)
    batch, gradients, losses = batches[-1], [], []
    shared = [batch.packed.ids[start:stop].tolist() for start, stop in batch.packed.branches.tolist()]
    prompts = [prompt_of(batch.packed, branch) for branch in range(len(shared))]
    apart = batch._replace(packed=pack([Tree(*tree) for tree in zip(prompts, ([r] for r in shared), strict=True)]))
    assert len(apart.packed.ids) > len(batch.packed.ids)
    module.log_dict = lambda *_, **__: None
    for each in (batch, apart):
        module.zero_grad()
        loss = step(each, 0)
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([weight.grad.flatten() for weight in module.parameters()]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert (gradients[0] - gradients[1]).norm() < 1e-5 * gradients[1].norm()


def prompt_of(packed, branch):
    start = packed.branches[branch, 0]
    places = texts(packed)[branch]
    return packed.ids[places[: (places == start).nonzero().item()]].tolist()


def test_padded_rows_draw_the_same_replies_and_learn_the_same(ppo, trainer):
    """The oracle: transformers' own generate and right-padded rows."""
    ends, seen = [], []
    for route in ("packed", "padded"):
        module, collect, loader = ppo(
            route=route, samples=4, max_new_tokens=5, observe=lambda *given: seen.append(given[2])
        )
        module._optimizer = lambda module: torch.optim.SGD(module.parameters(), lr=0.1)
        fit(module, loader, epochs=2, **trainer)
        ends.append((collect.history, torch.cat([weight.detach().flatten() for weight in module.parameters()])))
    assert seen[:2] == seen[2:]
    for one, other in zip(ends[0][0], ends[1][0], strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert (ends[0][1] - ends[1][1]).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("estimator", "learned"),
    [
        (leave_one_out, {"weigh": partial(by_length, length=1)}),
        (partial(group_normalised, scaled=True), {"weigh": by_reply, "kl_loss_coef": 0.01}),
        (partial(group_normalised, scaled=False), {"entropy_coef": 0.001}),
    ],
)
def test_other_estimators_solve_the_bandit_without_values(ppo, trainer, tokenizer, estimator, learned):
    module, collect, loader = ppo(samples=8, estimator=estimator, learned={"vf_coef": 0.0, **learned})
    fit(module, loader, epochs=20, **trainer)
    assert p_first_letter(module.policy, tokenizer, "a") > 0.85
    assert module.value_head.weight.abs().max() == 0
    assert collect.history[-1]["objective/scores"] > 0.85


def test_a_kl_loss_keeps_the_policy_near_its_reference(ppo, trainer):
    ends = []
    for coef in (0.0, 3.0):
        learned = {"vf_coef": 0.0, "kl_loss_coef": coef}
        module, collect, loader = ppo(samples=8, estimator=leave_one_out, learned=learned)
        fit(module, loader, epochs=8, **trainer)
        ends.append(collect.history[-1]["objective/kl_k3"])
    assert ends[1] < 0.2 * ends[0]


def test_an_entropy_bonus_keeps_replies_varied(ppo, trainer):
    ends = []
    for coef in (0.0, 0.5):
        module, collect, loader = ppo(learned={"entropy_coef": coef})
        fit(module, loader, epochs=8, **trainer)
        ends.append(collect.history[-1]["policy/entropy_avg"])
    assert ends[1] > 2 * ends[0]


def test_a_held_out_judge_is_asked_and_not_maximised(ppo, trainer, tokenizer):
    """It likes another letter than the reward does: its score falls as the reward rises."""
    module, collect, loader = ppo(heldout=rewards_for("b"))
    fit(module, loader, epochs=12, **trainer)
    assert p_first_letter(module.policy, tokenizer, "a") > 0.9
    scores = [row["heldout/scores"] for row in collect.history]
    assert scores[-1] < scores[0] and collect.history[-1]["objective/scores"] > 0.9


def test_the_ratio_before_the_first_update_is_one_and_remembered(ppo, trainer):
    """And one half where the old log-probabilities are not the sampler's but ln 2 more."""
    for shift, error in ((0.0, 0.0), (math.log(2), 0.5)):
        module, _, loader = ppo(max_new_tokens=4)
        step = module.training_step

        def training_step(batch, batch_idx, step=step, shift=shift):
            return step(batch._replace(old_logps=batch.old_logps + shift), batch_idx)

        module.training_step = training_step
        fit(module, loader, epochs=2, **trainer)
        assert module.first_ratio_error == pytest.approx(error, abs=1e-5)


def test_a_held_out_score_that_is_no_number_names_its_prompt(ppo, trainer):
    module, _, loader = ppo(heldout=lambda _, replies: [float("nan")] * len(replies))
    with pytest.raises(ValueError, match=r"the held-out reward of a reply to prompt '.' is nan"):
        fit(module, loader, epochs=1, **trainer)


def test_long_replies_can_cost(ppo, trainer):
    """A reward of 1 a reply less 1 a token beyond the first: the transform sees lengths."""
    seen = []

    def transform(scores, lengths):
        seen.append((scores.tolist(), lengths.tolist()))
        return scores - (lengths - 1)

    module, collect, loader = ppo(max_new_tokens=4, transform=transform, score=lambda _, replies: [1.0] * len(replies))
    fit(module, loader, epochs=1, **trainer)
    scores, lengths = seen[0]
    assert scores == [1.0] * 32 and {1, 4} >= {min(lengths)} and max(lengths) <= 4
    paid = sum(1 - (length - 1) for length in lengths) / 32
    assert collect.history[0]["objective/rlhf_reward"] == pytest.approx(paid, abs=1e-5)
