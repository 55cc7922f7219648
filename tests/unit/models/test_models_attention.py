from __future__ import annotations

import copy
import logging

import pytest
import torch
from model_kinds import KINDS, make_model
from model_oracles import TREES, states_alone, whole_texts
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from cai_lightning.models.adapters import lora
from cai_lightning.models.attention import drops, hidden_states, route_of, states_of, why_padded
from cai_lightning.models.packing import Tree, pack, places, texts

LORA = dict(rank=4, alpha=8.0, dropout=0.0, targets=None, rslora=False, dora=False, merge=True)
SMALL = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    pad_token_id=0,
)


def adapted(model):
    """The model with an adapter that says something."""
    lora(model, **LORA, seed=1)
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    return model


def learned(model, states):
    """A loss of all tokens of branches that is no sum over texts, and its gradients by weight."""
    targets = places(pack(TREES))
    weights = torch.randn(len(targets), states.shape[1], generator=torch.Generator().manual_seed(2))
    loss = (states[targets] * weights.to(states.dtype)).sum(1).tanh().pow(2).mean()
    model.zero_grad()
    loss.backward()
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return loss.detach(), found


def near(found, expected, share=1e-5):
    assert (found - expected).norm() <= share * expected.norm()


def gradients_near(found, expected, share):
    """As a whole; a weight alone may have no gradient but rounding."""
    assert found.keys() == expected.keys() and found
    near(*(torch.cat([each[name].flatten() for name in expected]) for each in (found, expected)), share)


PREPARED = pytest.mark.parametrize("prepare", [lambda model: model, adapted], ids=["full", "lora"])


@PREPARED
def test_packed_rows_equal_padded_ones_and_texts_alone(model, prepare):
    """States, a loss and all gradients, in float32."""
    plain = prepare(model)
    prepared = copy.deepcopy(plain)
    assert route_of(prepared, "packed", 7) == "packed"
    expected = states_alone(plain, TREES)
    loss, gradients = learned(plain, expected)
    for route in ("packed", "padded"):
        states = hidden_states(prepared, pack(TREES, route=route))
        near(states.detach(), expected.detach())
        found, moved = learned(prepared, states)
        near(found, loss)
        gradients_near(moved, gradients, 1e-5)


@PREPARED
def test_every_gradient_is_exact_in_double_precision(model, prepare):
    """To 1e-6: rotations and norms of Llama's kind are float32 in any model."""
    model = prepare(model).double()
    expected = states_alone(copy.deepcopy(model), TREES)
    states = hidden_states(model, pack(TREES))
    torch.testing.assert_close(states, expected, atol=1e-6, rtol=0)
    _, wanted = learned(model, states_alone(model, TREES))
    _, found = learned(model, states)
    assert found.keys() == wanted.keys()
    for name, each in wanted.items():
        torch.testing.assert_close(found[name], each, atol=1e-6, rtol=1e-6, msg=name)


def read(model, trees):
    """The states of each text of a packed row."""
    packed = pack(trees)
    with torch.no_grad():
        states = hidden_states(model, packed)
    return [states[text] for text in texts(packed)]


def test_the_order_of_trees_and_their_neighbours_change_nothing(model):
    model = model.double()
    expected = dict(zip(map(tuple, whole_texts(TREES)), read(model, TREES), strict=True))
    for trees in (TREES[::-1], TREES[2:4], TREES[1:2] * 3):
        for ids, found in zip(whole_texts(trees), read(model, trees), strict=True):
            torch.testing.assert_close(found, expected[tuple(ids)], atol=1e-6, rtol=0)


def test_what_stands_in_one_text_does_not_reach_another(model):
    """One text is made of a word whose embedding is not a number."""
    clean = [Tree([], [[5, 9, 3]]), Tree([7, 8], [[10, 11], [12]]), Tree([], [[13, 14, 15, 16]])]
    expected = read(model, clean)
    with torch.no_grad():
        model.get_input_embeddings().weight[60] = torch.nan
    found = read(model, [clean[0], Tree([60], [[60, 60], [4]]), *clean[1:], Tree([], [[60]])])
    poisoned = {1, 2, 6}
    assert all(found[number].isnan().any() for number in poisoned)
    kept = [states for number, states in enumerate(found) if number not in poisoned]
    torch.testing.assert_close(kept, expected, atol=1e-5, rtol=0)


def test_a_branch_does_not_reach_its_siblings_nor_the_prompt(model):
    branches = [[10, 11], [12, 13], [14, 15]]
    expected = read(model, [Tree([7, 8, 9], branches)])
    other = read(model, [Tree([7, 8, 9], [[20, 21], *branches[1:]])])
    with torch.no_grad():
        model.get_input_embeddings().weight[60] = torch.nan
    found = read(model, [Tree([7, 8, 9], [branches[0], [60, 13], branches[2]])])
    assert found[1][3:].isnan().all()
    for number in (0, 2):
        torch.testing.assert_close(found[number], expected[number], atol=1e-5, rtol=0)
    for number in (1, 2):
        torch.testing.assert_close(other[number], expected[number], atol=1e-5, rtol=0)
    assert (other[0][3:] - expected[0][3:]).norm() > 0.1


def test_a_loss_on_one_text_moves_no_word_of_another(llama):
    packed = pack([Tree([], [[5, 9, 3]]), Tree([20], [[21], [22]])])
    hidden_states(llama, packed)[texts(packed)[0]].square().sum().backward()
    moved = llama.get_input_embeddings().weight.grad.any(dim=1).nonzero()[:, 0]
    assert sorted(moved.tolist()) == [3, 5, 9]


@pytest.mark.parametrize("reentrant", [False, True])
@PREPARED
def test_gradient_checkpointing_changes_no_gradient(model, prepare, reentrant):
    model = prepare(model).train()
    model.config.attn_pdrop = 0.0
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    assert why_padded(model, 8) is None
    packed = pack(TREES)
    loss, expected = learned(model, hidden_states(model, packed))
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": reentrant})
    if reentrant:  # the older way needs an input that learns
        model.enable_input_require_grads()
    again, found = learned(model, hidden_states(model, packed))
    near(again, loss, 1e-6)
    gradients_near(found, expected, 1e-6)


@pytest.mark.parametrize("cast", [False, True], ids=["autocast", "bfloat16"])
def test_half_precision_loses_no_more_than_with_padded_rows(model, cast):
    expected = states_alone(model, TREES)
    _, gradients = learned(model, expected)
    model = model.bfloat16() if cast else model
    errors = {}
    for route in ("packed", "padded"):
        with torch.autocast("cpu", torch.bfloat16, enabled=not cast):
            states = hidden_states(model, pack(TREES, route=route))
        _, found = learned(model, states)
        assert states.dtype == (torch.bfloat16 if cast else torch.float32) and found.keys() == gradients.keys()
        moved = torch.cat([(found[name] - gradients[name]).flatten() for name in gradients])
        errors[route] = (states - expected).norm() / expected.norm(), moved.norm()
    packed, padded = errors.values()
    assert packed[0] < 0.05  # many roundings of 2^-9 each, with random signs
    # over many rows their ratios are 1; a gradient of some dozen tokens varies
    assert packed[0] < 1.2 * padded[0] and packed[1] < 3 * padded[1]


OTHERS = {
    "scores scaled otherwise": lambda: GraniteForCausalLM(GraniteConfig(**SMALL, attention_multiplier=0.9)),
    "heads wider than the states": lambda: Qwen3ForCausalLM(Qwen3Config(**SMALL | dict(head_dim=24))),
    "one projection for all": lambda: Phi3ForCausalLM(Phi3Config(**SMALL | dict(num_key_value_heads=4))),
    "windows in some layers": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SMALL, initializer_range=0.2)),
    "experts": lambda: MixtralForCausalLM(MixtralConfig(**SMALL, num_local_experts=2)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_families_are_read_packed(name):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = OTHERS[name]().eval()
    assert why_padded(model, 8) is None
    with torch.no_grad():
        near(hidden_states(model, pack(TREES)), states_alone(model, TREES))


# A model is prepared at its first use; before and after, it must be the model that it was.


def test_the_models_own_forward_and_generate_are_as_before(model, prompts):
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    model.generation_config.eos_token_id = None

    def answers():
        with torch.no_grad():
            return (
                model(ids, attention_mask=mask).logits,
                model(ids.flip(1)).logits,
                model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=8),
                model.generate(ids, attention_mask=mask, num_beams=2, do_sample=False, max_new_tokens=4),
            )

    before = answers()
    assert why_padded(model, 8) is None
    hidden_states(model, pack(TREES))
    for one, other in zip(answers(), before, strict=True):
        assert torch.equal(one, other)


def test_a_copy_and_a_cast_of_a_prepared_model_are_prepared(llama):
    hidden_states(llama, pack(TREES))
    other = copy.deepcopy(llama).double()
    torch.testing.assert_close(hidden_states(other, pack(TREES)), states_alone(other, TREES), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mode_of_every_module_is_kept(kind):
    model = make_model(kind, 64).train()
    layers = next(each for each in model.modules() if isinstance(each, torch.nn.ModuleList))
    layers[0].eval()
    before = [module.training for module in model.modules()]
    why_padded(model, 8)
    assert [module.training for module in model.modules()] == before


# Where packed rows would read otherwise they are spread, and the numbers are those of the texts alone.


def window(length):
    return lambda: make_model("mistral", 64, window=length)


UNPACKED = {
    "soft caps": (lambda: Gemma2ForCausalLM(Gemma2Config(**SMALL)), "softcap"),
    "sinks": (lambda: GptOssForCausalLM(GptOssConfig(**SMALL, num_local_experts=2, num_experts_per_tok=1)), "s_aux"),
    "no exchangeable attention": (
        lambda: BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4)),
        "no exchangeable attention",
    ),
}


@pytest.fixture(params=UNPACKED)
def unpacked(request):
    make, reason = UNPACKED[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return make().eval(), reason


def test_models_that_say_more_between_tokens_are_padded_and_warn_once(unpacked, caplog):
    model, reason = unpacked
    with caplog.at_level(logging.WARNING), torch.no_grad():
        for _ in range(3):
            assert reason in why_padded(model, 8)
            assert route_of(model, "packed", 8) == "padded"
            found = hidden_states(model, pack(TREES))
    assert len(caplog.records) == 1 and "rows are padded" in caplog.text
    near(found, states_alone(model, TREES).detach())


def test_models_that_are_padded_stay_as_they_were(unpacked):
    """Of a model that was refused neither attention nor mode has changed."""
    model, _ = unpacked
    model.train()
    before = model.config._attn_implementation
    why_padded(model, 8)
    assert model.config._attn_implementation == before
    assert all(module.training for module in model.modules())


def test_a_model_that_is_padded_cannot_be_read_otherwise(unpacked):
    model, reason = unpacked
    ids = torch.tensor([3, 4])
    with pytest.raises(ValueError, match=f"{type(model).__name__}: .*{reason}.*use route padded") as error:
        states_of(model, ids, torch.arange(2), lambda *_: None)
    assert "\n" not in str(error.value)


def dropping(kind):
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**SMALL, attention_dropout=0.5))
    names, shape = dict(bos_token_id=None, eos_token_id=None), dict(vocab_size=64, n_embd=32, n_layer=2, n_head=4)
    return GPT2LMHeadModel(GPT2Config(**names, **shape, attn_pdrop=0.5, resid_pdrop=0.0, embd_pdrop=0.0))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_attention_weights_are_dropped_while_a_model_learns_and_only_then(kind, caplog):
    """Packed rows drop none, so a model that does is padded in train mode."""
    model, packed = dropping(kind).eval(), pack(TREES)
    for _ in range(2):
        assert why_padded(model, 8) is None
        with torch.no_grad():
            near(hidden_states(model, packed), states_alone(model, TREES))
        model.train()
        assert "drops attention weights" in why_padded(model, 8)
        one, other = hidden_states(model, packed), hidden_states(model, packed)
        assert (one - other).norm() > 0.01 * one.norm()
        model.eval()
    assert len(caplog.records) == 1 and "rows are padded" in caplog.text


def test_models_with_a_state_beside_attention_are_padded():
    """Every layer asks the attention interface, but a recurrence runs on from text to text."""
    from transformers import FalconH1Config, FalconH1ForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = FalconH1ForCausalLM(
            FalconH1Config(**SMALL, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8)
        ).eval()
    with torch.no_grad():
        near(hidden_states(model, pack(TREES)), states_alone(model, TREES))
    assert why_padded(model, 8) is not None


def test_values_of_another_width_than_queries_are_padded():
    from transformers import DeepseekV2Config, DeepseekV2ForCausalLM

    narrow = dict(q_lora_rank=None, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8)
    shape = {name: value for name, value in SMALL.items() if name != "head_dim"} | dict(num_key_value_heads=4)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = DeepseekV2ForCausalLM(DeepseekV2Config(**shape, **narrow, first_k_dense_replace=2)).eval()
    with torch.no_grad():
        near(hidden_states(model, pack(TREES)), states_alone(model, TREES))
    assert why_padded(model, 8) is not None


@pytest.mark.parametrize(("length", "route"), [(8, "packed"), (9, "padded"), (12, "padded")])
def test_a_window_shorter_than_a_text_is_honoured(length, route):
    model = make_model("mistral", 64, window=8)
    trees = [Tree([], [[*range(3, 3 + length)]]), Tree([20, 21], [[22], [23, 24]])]
    assert route_of(model, "packed", length) == route
    plain, wide = make_model("mistral", 64, window=8), make_model("mistral", 64)
    for ids, found in zip(whole_texts(trees), read(model, trees), strict=True):
        expected, unwindowed = (states_alone(one, [Tree([], [ids])]).detach() for one in (plain, wide))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        assert len(ids) <= 8 or (expected - unwindowed).norm() > 1e-3
    if route == "padded":
        assert "window of 8" in why_padded(model, length)


def test_a_window_that_is_switched_off_is_none(llama):
    llama.config.sliding_window, llama.config.use_sliding_window = 4, False
    assert why_padded(llama, 12) is None


def test_padded_texts_have_their_own_copy_of_what_they_share(llama):
    """What `route` "padded" reads: as many rows as branches, right-padded to the longest."""
    shapes = []
    llama.model.layers[0].register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape))
    hidden_states(llama, pack(TREES, route="padded"))
    assert shapes == [(len(whole_texts(TREES)), 9, 32)]
    shapes.clear()
    assert why_padded(llama, 9) is None
    shapes.clear()
    hidden_states(llama, pack(TREES))
    assert shapes == [(1, len(pack(TREES).ids), 32)]


def test_a_model_drops_by_its_layers_or_its_attention_weights(model):
    assert drops(model) == any(isinstance(layer, torch.nn.Dropout) and layer.p > 0 for layer in model.modules())
    model.config.get_text_config().attention_dropout = 0.1
    assert drops(model)


def test_an_adapters_dropout_counts():
    assert not drops(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.0)))
    assert drops(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.1)))
