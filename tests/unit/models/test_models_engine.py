from __future__ import annotations

import pytest
import torch
from model_kinds import make_model
from model_oracles import continued

from cai_lightning.models.encoding import decode, prompts_ids
from cai_lightning.models.engine import CausalBackend, sample
from cai_lightning.models.noise import row_key
from cai_lightning.text.backends import Query, Request, Sampling
from cai_lightning.text.dialogue import Message, from_text

SAMPLING = Sampling(temperature=1.0, max_new_tokens=12, stop=(), seed=5)
TEXTS = [
    "\n\nHuman: how can i build a bomb ?\n\nAssistant:",
    "\n\nHuman: ask me\n\nAssistant: no .\n\nHuman: why ?\n\nAssistant:",
    "\n\nHuman: what\n\nAssistant:",
]


@pytest.fixture
def backend(llama, words):
    return CausalBackend(llama.double(), words, batch_size=2)


def prompt_ids(tokenizer, text):
    return prompts_ids(tokenizer, [text])[0]


def requests(texts=TEXTS):
    return [Request(f"row {number}", text) for number, text in enumerate(texts)]


def test_generates_what_the_sampler_draws(backend, words):
    for text, found in zip(TEXTS, backend.generate(requests(), SAMPLING), strict=True):
        ids = prompt_ids(words, text)
        drawn = sample(
            backend.model,
            [ids],
            row_keys=[row_key(f"row {TEXTS.index(text)}")],
            seed=5,
            temperatures=[1.0],
            limits=[12],
            eos=(1,),
            stop=None,
            slots=1,
        )[0]
        assert found.text == decode(words, drawn.ids).removeprefix(" ")
        assert (found.prompt_tokens, found.tokens, found.finish) == (len(ids), len(drawn.ids), drawn.finish)


def test_order_and_batch_size_change_nothing(backend, llama, words):
    base = backend.generate(requests(), SAMPLING)
    assert backend.generate(requests()[::-1], SAMPLING) == base[::-1]
    assert CausalBackend(llama, words, batch_size=64).generate(requests(), SAMPLING) == base
    assert backend.generate([], SAMPLING) == []


def test_dialogues_are_asked_as_their_text(backend):
    dialogues = [from_text(text) for text in TEXTS]
    assert backend.generate(requests(dialogues), SAMPLING) == backend.generate(requests(), SAMPLING)
    letters = (" (A)", " (B)")
    assert backend.score([Query(row, letters) for row in dialogues]) == backend.score(
        [Query(row, letters) for row in TEXTS]
    )


def test_a_last_assistant_turn_is_gone_on_with(backend):
    text = TEXTS[0] + " sure ."
    started = (*from_text(TEXTS[0]), Message("assistant", "sure ."))
    assert backend.generate(requests([started]), SAMPLING) == backend.generate(requests([text]), SAMPLING)


def test_stop_string_is_cut_from_the_text(byte_llama, byte_level):
    backend = CausalBackend(byte_llama.double(), byte_level, batch_size=4)
    request = [Request("a", "\n\nHuman: hi\n\nAssistant:")]
    free = backend.generate(request, SAMPLING)[0]
    characters = [mark for mark in free.text[4:] if mark.isascii() and mark.isprintable()]
    stop = characters[0]
    found = backend.generate(request, Sampling(1.0, 12, (stop, "\n\nHuman:"), 5))[0]
    assert free.text.startswith(found.text) and stop not in found.text
    assert found.finish == "stop" and len(found.text) < len(free.text) and found.tokens <= free.tokens


def test_exactly_one_leading_space_goes(backend, words, monkeypatch):
    spaced = [words.convert_tokens_to_ids(" sure"), words.convert_tokens_to_ids(" ."), 1]
    monkeypatch.setattr("cai_lightning.models.sampler.draws", lambda _, __, steps, **___: torch.tensor(spaced)[steps])
    found = backend.generate(requests(TEXTS[:1]), SAMPLING)[0]
    assert (found.text, found.tokens, found.finish) == ("sure .", 3, "stop")


def test_long_prompts_are_cut_at_a_human_turn(backend, words):
    turn = "\n\nHuman: how can i build a bomb ?\n\nAssistant: no ."
    text = turn * 20 + TEXTS[2]
    found = backend.generate(requests([text, TEXTS[0]]), SAMPLING)
    assert backend.cut == {text}
    # a turn has 11 tokens and the last one 3; the model has 128 positions less 12 for the reply
    assert [row.prompt_tokens for row in found] == [113, 9]
    assert found[0].prompt_tokens == len(prompt_ids(words, turn * 10 + TEXTS[2]))
    short = backend.generate([Request("row 0", turn * 10 + TEXTS[2])], SAMPLING)[0]
    assert short == found[0]


def test_a_prompt_that_cannot_fit_is_named(backend):
    text = TEXTS[0] + "\n\nHuman:" + " how" * 200 + "\n\nAssistant:"
    with pytest.raises(ValueError, match=r"row 'row 1'.*max_new_tokens"):
        backend.generate(requests([TEXTS[0], text]), SAMPLING)
    with pytest.raises(ValueError, match="row 'row 1': the prompt is empty"):
        backend.generate(requests([TEXTS[0], ""]), SAMPLING)
    backend.cut_questions = True
    with pytest.raises(ValueError, match=r"query 0.*last turn"):
        backend.score([Query(text, (" (A)",))])


def test_a_question_in_running_text_is_cut_only_where_that_is_allowed(backend, llama, words, caplog):
    letters, solved = (" (A)", " (B)"), "\n\nHuman: how can i build a bomb ?\n\nAssistant: no ." * 20
    text = "\n\nConsider:" + solved + TEXTS[2]
    with pytest.raises(ValueError, match=r"query 1: the question has 224 tokens.*127.*cut_questions"):
        backend.score([Query(TEXTS[0], letters), Query(text, letters)])
    assert backend.cut == set()
    dialogue = from_text(solved + TEXTS[2])
    allowed = CausalBackend(llama, words, batch_size=2, cut_questions=True)
    for prompt, asked in ((text, allowed), (dialogue, backend)):
        (found,) = asked.score([Query(prompt, letters)])
        # the longest end that fits: eleven turns of 11 tokens and one of 3
        assert found == allowed.score([Query(solved[: len(solved) * 11 // 20] + TEXTS[2], letters)])[0]
        assert asked.cut == {prompt}
    assert len(caplog.records) == 2 and "more than the model reads" in caplog.text


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_hfs_own_loop_draws_and_scores_the_same(kind, words):
    model = make_model(kind, 64).double()
    packed, padded = (CausalBackend(model, words, batch_size=2, route=route) for route in ("packed", "padded"))
    stopping = Sampling(temperature=1.0, max_new_tokens=12, stop=(" the", " what"), seed=5)
    for sampling in (SAMPLING, stopping):
        assert padded.generate(requests(), sampling) == packed.generate(requests(), sampling)
    queries = [Query(text, (" (A)", " (B) .")) for text in TEXTS]
    for one, other in zip(padded.score(queries), packed.score(queries), strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_a_model_that_must_be_padded_is_padded(words, monkeypatch):
    """Eight positions back: no text here is that short, so neither draws nor scores may be packed ones."""
    model = make_model("mistral", 64, window=8).double()
    backend = CausalBackend(model, words, batch_size=2)
    monkeypatch.setattr("cai_lightning.models.engine.sample", None)
    for request, found in zip(requests(), backend.generate(requests(), SAMPLING), strict=True):
        ids = prompt_ids(words, request.prompt)
        drawn = continued(model, ids, row_key(request.row), seed=5, steps=12, eos=(1,))
        assert found.text == decode(words, drawn).removeprefix(" ")
    for text, found in zip(TEXTS, backend.score([Query(text, (" (A)",)) for text in TEXTS]), strict=True):
        assert found == pytest.approx([slow_score(model, words, text, " (A)")], abs=1e-5)


def test_a_request_may_have_a_temperature_and_a_limit_of_its_own(backend):
    wishes = [{}, {"temperature": 0.0}, {"max_new_tokens": 3}, {"temperature": 0.5, "max_new_tokens": 0}]
    own = [Request(f"row {number}", TEXTS[0], **wish) for number, wish in enumerate(wishes)]
    found = backend.generate(own, SAMPLING)
    for row, request, wish in zip(found, own, wishes, strict=True):
        changed = Sampling(**(vars(SAMPLING) | wish))
        assert row == backend.generate([Request(request.row, request.prompt)], changed)[0]
    assert [row.tokens for row in found[2:]] == [3, 0] and found[0] != found[1]


def test_room_is_made_for_a_requests_own_limit(backend, words):
    """128 positions: 113 tokens leave room for 12, not for 40."""
    turn = "\n\nHuman: how can i build a bomb ?\n\nAssistant: no ."
    text = turn * 10 + TEXTS[2]
    short, long = backend.generate([Request("a", text), Request("b", text, max_new_tokens=40)], SAMPLING)
    assert (short.prompt_tokens, long.prompt_tokens) == (len(prompt_ids(words, text)), 113 - 3 * 11)
    assert long.prompt_tokens + 40 <= 128 and backend.cut == {text}


def test_beginnings_are_kept_from_call_to_call(llama, words):
    """Questions behind the same 40 words, in several calls."""
    backend = CausalBackend(llama, words, batch_size=8)
    solved = "\n\nHuman: how can i build a bomb ?\n\nAssistant: no ." * 4
    texts = [solved + text for text in TEXTS]
    for _ in range(2):
        backend.generate(requests(texts), SAMPLING)
        backend.score([Query(text, (" (A)", " (B)")) for text in texts])
    assert backend.prefixes.read == 1


@pytest.mark.parametrize("route", ["packed", "padded"])
def test_progress_counts_every_request(llama, words, route):
    done = []
    backend = CausalBackend(llama, words, batch_size=2, advance=done.append, route=route)
    backend.generate(requests(), SAMPLING)
    assert sum(done) == 3 and all(done)
    done.clear()
    backend.score([Query(text, (" (A)",)) for text in TEXTS])
    assert sum(done) == 3 and all(done)


def slow_score(model, tokenizer, text, continuation):
    """The chain rule, one forward a token."""
    ids, whole, total = prompt_ids(tokenizer, text), prompt_ids(tokenizer, text + continuation), 0.0
    for at in range(len(ids), len(whole)):
        with torch.no_grad():
            logits = model(torch.tensor([whole[:at]])).logits[0, -1]
        total += torch.log_softmax(logits, -1)[whole[at]].item()
    return total


@pytest.mark.parametrize("continuations", [(" (A)", " (B)"), (" sure .", " no"), (" how can i build", " (A)", " .")])
def test_scores_equal_the_chain_rule(model, words, continuations):
    backend = CausalBackend(model, words, batch_size=2)
    found = backend.score([Query(text, continuations) for text in TEXTS])
    for text, row in zip(TEXTS, found, strict=True):
        expected = [slow_score(model, words, text, continuation) for continuation in continuations]
        assert row == pytest.approx(expected, abs=2e-5)


def test_letters_of_several_tokens_are_scored_whole(byte_llama, byte_level_bos):
    backend = CausalBackend(byte_llama, byte_level_bos, batch_size=3)
    found = backend.score([Query("\n\nThe answer is:", (" (A)", " (B)")), Query("is:", (" (A)",)), Query("is:", ())])
    for text, row in zip(("\n\nThe answer is:", "is:"), found, strict=False):
        expected = [slow_score(byte_llama, byte_level_bos, text, tail) for tail in (" (A)", " (B)")]
        assert row == pytest.approx(expected[: len(row)], abs=2e-5)
    assert [len(row) for row in found] == [2, 1, 0]
    assert backend.score([]) == []


def test_scoring_a_model_in_train_mode_is_repeatable_and_leaves_it_there(llama, words):
    llama.train()
    llama.config.attention_dropout = 0.5
    for layer in llama.model.layers:
        layer.self_attn.attention_dropout = 0.5
    backend = CausalBackend(llama, words, batch_size=4)
    queries = [Query(text, (" (A)", " (B)")) for text in TEXTS]
    assert backend.score(queries) == backend.score(queries)
    assert llama.training
