"""What a model learns and where it stops, family by family: rows, masks, first-batch checks, sampling."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from model_families import FAMILIES, family
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from cai_lightning.data.pairs import as_asked, collate_pairs, pair_rows
from cai_lightning.data.sft import collate_sft, sft_rows
from cai_lightning.models.causal import eos_ids
from cai_lightning.models.encoding import decode
from cai_lightning.models.engine import CausalBackend
from cai_lightning.models.format import Format
from cai_lightning.models.packing import Tree, pack, places, texts
from cai_lightning.stages.checks import supervision
from cai_lightning.text.backends import Query, Request, Sampling
from cai_lightning.text.dialogue import Message, human, to_text
from cai_lightning.text.records import Label, Prompt

BEGUN = SimpleNamespace(global_step=0)
SYSTEM = Message("system", "Be brief.")
TURNS = (*human("How long does bread take?"), Message("assistant", "Forty minutes."), *human("And a big one?"))
DIALOGUES = [human("Why is the sky blue?"), TURNS, (SYSTEM, *human("What is a goat?")), (SYSTEM, *TURNS)]
REPLIES = ["Because air scatters it.", "An hour.\n", "It's an animal (a kind one).", "No."]


def sft_batch(format):
    examples = list(zip(DIALOGUES, REPLIES, strict=True))
    rows, counts = sft_rows(examples, format, max_tokens=300)
    assert counts["kept"] == 4
    return collate_sft(rows, [0, 1, 2, 3], 1.0, route="packed")


def pair_batch(format, asked=as_asked):
    none = dict.fromkeys(("logit_ab", "logit_ba", "principle", "principle_hash", "model"))
    labels = [
        Label(
            id=str(number),
            prompt=Prompt(id="p", dialogue=dialogue, source="s", kind="red_team", cluster="c"),
            a=reply,
            b="I don't know.",
            p_a=0.9,
            source="test",
            weight=1.0,
            **none,
        )
        for number, (dialogue, reply) in enumerate(zip(DIALOGUES, REPLIES, strict=True))
    ]
    rows, counts = pair_rows(labels, None, format, asked=asked, max_tokens=300)
    assert counts["kept"] == 4
    return collate_pairs(rows, [0, 1, 2, 3], 1.0, share=True, route="packed")


def check(format, batch, **changes):
    supervision(format, **changes).on_train_batch_start(BEGUN, None, batch, 0)


def rows_of(batch):
    """Each text of a batch: its ids, and 1 where it is learned."""
    learned = torch.zeros(len(batch.packed.ids))
    learned[getattr(batch, "targets", places(batch.packed))] = 1.0
    return [(batch.packed.ids[text], learned[text]) for text in texts(batch.packed)]


def batch_of(rows):
    """A batch as of supervised learning, with weights that nobody checked."""
    packed = pack([Tree((), [ids]) for ids, _ in rows])
    weights = torch.zeros(len(packed.ids))
    for text, (_, weight) in zip(texts(packed), rows, strict=True):
        weights[text] = weight
    targets = weights.nonzero()[:, 0]
    return SimpleNamespace(packed=packed, targets=targets, weights=weights[targets])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_learns_its_replies_with_their_end_and_no_token_of_a_prompt(name):
    format = Format(family(name))
    sft, pairs = sft_batch(format), pair_batch(format)
    check(format, sft)
    check(format, pairs)
    said = [text for reply in REPLIES for text in (reply, "I don't know.")]
    asked = [dialogue for dialogue in DIALOGUES for _ in "ab"]
    for batch, replies, dialogues in ((sft, REPLIES, DIALOGUES), (pairs, said, asked)):
        for (ids, weight), text, dialogue in zip(rows_of(batch), replies, dialogues, strict=True):
            learned = ids[weight > 0].tolist()
            assert learned[-1] == format.end and learned.count(format.end) == 1
            assert format.reply(dialogue, decode(format.tokenizer, learned)) == text
            read = ids[: int((weight > 0).int().argmax())].tolist()
            assert format.prompt_ids([dialogue]) == [read]
            assert len(ids) == len(read) + len(learned)


def test_repacked_rows_are_checked_as_the_batch_itself_is():
    """What the broken batches below are made with breaks nothing."""
    format = Format(family("gpt2"))
    for batch in (sft_batch(format), pair_batch(format)):
        check(format, batch_of(rows_of(batch)))


def shift(weights, by):
    return torch.roll(weights, by)


BROKEN = {
    "double start": lambda ids, weights, start: (
        torch.cat([torch.tensor([start]), ids]),
        torch.cat([torch.zeros(1), weights]),
    ),
    "no start": lambda ids, weights, _: (ids[1:], weights[1:]),
    "no end": lambda ids, weights, end: (ids, weights * (ids != end)),
    "end not learned but written": lambda ids, weights, _: (ids, weights * (shift(weights, -1) > 0)),
    "prompt learned": lambda ids, weights, _: (ids, ((weights > 0) | (shift(weights, -1) > 0)).float()),
    "whole prompt learned": lambda ids, weights, _: (ids, (weights.flip(0).cumsum(0).flip(0) > 0).float()),
    "shifted left": lambda ids, weights, _: (ids, shift(weights, -1)),
    "shifted right": lambda ids, weights, _: (ids, shift(weights, 1)),
    "first reply token unlearned": lambda ids, weights, _: (ids, weights * (shift(weights, 1) > 0)),
    "a second end learned": lambda ids, weights, _: (
        torch.cat([ids, ids[-1:]]),
        torch.cat([weights, weights[-1:]]),
    ),
    "nothing learned": lambda ids, weights, _: (ids, weights * 0),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_broken_first_batch_is_refused(name, kind):
    format = Format(family(name))
    if format.begin is None and kind in ("double start", "no start"):
        return  # its texts have none
    token = format.end if kind == "no end" else format.begin
    for batch in (sft_batch(format), pair_batch(format)):
        rows = [BROKEN[kind](ids, weights, token) for ids, weights in rows_of(batch)]
        with pytest.raises(ValueError, match="first batch") as error:
            check(format, batch_of(rows))
        assert "\n" not in str(error.value)


def test_a_reward_models_marker_stands_where_its_prompts_end():
    format = Format(family("gpt2"))
    batch = pair_batch(format, asked=lambda dialogue: to_text(dialogue) + "\n\nOracle:")
    check(format, batch, marker="\n\nOracle:")
    with pytest.raises(ValueError, match="not a prompt"):
        check(format, batch)
    early = [(ids, weights + shift(weights, -1) * (1 - weights)) for ids, weights in rows_of(batch)]
    with pytest.raises(ValueError, match="not a prompt"):
        check(format, batch_of(early), marker="\n\nOracle:")


MODELS = {
    "llama3": (LlamaForCausalLM, LlamaConfig),
    "mistral1": (MistralForCausalLM, MistralConfig),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config),
    "gpt2": (GPT2LMHeadModel, GPT2Config),
}


def model(name):
    """A random float64 model of the family's architecture over its tokenizer."""
    tokenizer = family(name)
    shape = dict(vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=None, initializer_range=0.2)
    if name == "gpt2":
        shape |= dict(n_embd=32, n_layer=2, n_head=4, n_positions=256)
    else:
        shape |= dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
        shape |= dict(num_key_value_heads=2, max_position_embeddings=256, pad_token_id=None)
    if name == "qwen3":
        shape |= dict(head_dim=8)
    kind, config = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return kind(config(**shape)).double().eval()


@pytest.mark.parametrize("name", MODELS)
def test_neither_order_nor_batch_nor_route_change_what_is_sampled(name):
    sampling = Sampling(temperature=1.0, max_new_tokens=10, stop=("zz",), seed=3)
    network = model(name)
    requests = [Request(str(number), dialogue) for number, dialogue in enumerate([*DIALOGUES, "A text:"])]
    requests.append(Request("prefill", (*TURNS, Message("assistant", "Well,"))))
    base = CausalBackend(network, family(name), batch_size=1).generate(requests, sampling)
    assert len({row.text for row in base}) == len(base)
    for batch_size in (2, 64):
        backend = CausalBackend(network, family(name), batch_size=batch_size)
        assert backend.generate(requests, sampling) == base
        assert backend.generate(requests[::-1], sampling) == base[::-1]
    assert CausalBackend(network, family(name), batch_size=64, route="padded").generate(requests, sampling) == base
    queries = [Query(request.prompt, (" (A)", " (B)")) for request in requests]
    alone = CausalBackend(network, family(name), batch_size=1).score(queries)
    for found, row in zip(CausalBackend(network, family(name), batch_size=64).score(queries), alone, strict=True):
        assert found == pytest.approx(row, abs=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_a_reply_that_was_learned_is_sampled_back_and_stops_at_its_end(name, monkeypatch):
    """The model is rigged to say what a training row teaches, and would go on behind it."""
    tokenizer, format = family(name), Format(family(name))
    said = [*format.reply_ids(["An hour, I'd say (at most)."])[0], *format.reply_ids(["More."])[0]]
    monkeypatch.setattr("cai_lightning.models.sampler.draws", lambda _, __, steps, **___: torch.tensor(said)[steps])
    backend = CausalBackend(model(name), tokenizer, batch_size=4)
    sampling = Sampling(temperature=1.0, max_new_tokens=len(said), stop=(), seed=0)
    for found in backend.generate([Request(str(n), dialogue) for n, dialogue in enumerate(DIALOGUES)], sampling):
        assert (found.text, found.finish) == ("An hour, I'd say (at most).", "stop")
        assert found.tokens == said.index(format.end) + 1


@pytest.mark.parametrize("name", FAMILIES)
def test_the_first_end_id_is_the_one_that_replies_are_learned_with(name):
    bare = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=None))
    ends = eos_ids(family(name), bare)
    assert ends[0] == Format(family(name)).end and family(name).eos_token_id in ends


def test_the_engine_verifies_letters():
    backend = CausalBackend(model("qwen2"), family("qwen2"), batch_size=1)
    found = backend.verify(Query(human("(A) or (B)?"), (" (A)", " (B)")))
    assert found == {" (A)": ["(", "A", ")"], " (B)": ["(", "B", ")"]}
    with pytest.raises(ValueError, match="not equally many tokens"):
        backend.verify(Query("The answer is:", (" (A)", " the (B)")))
