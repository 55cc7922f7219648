from __future__ import annotations

import pytest
import torch
from model_kinds import KINDS, make_model
from model_oracles import check_continuation, continued
from transformers import BloomConfig, BloomForCausalLM

from cai_lightning.models import sampler
from cai_lightning.models.generation import generate
from cai_lightning.models.grouping import pieces
from cai_lightning.models.sampler import Counts, Sampled, draws, sample, token_kinds
from cai_lightning.models.slots import Prefixes
from cai_lightning.models.stopping import StopStrings

NEVER = ()
TWO = pytest.mark.parametrize("model", ["llama", "gpt2"], indirect=True)  # rotated and learned positions


def draw(model, prompts, keys=None, *, temperature=1.0, limit=12, read=sample, **changes):
    settings = dict(seed=3, eos=NEVER, stop=None, slots=4)
    settings |= dict(temperatures=[temperature] * len(prompts), limits=[limit] * len(prompts))
    return read(model, prompts, row_keys=keys or list(range(len(prompts))), **settings | changes)


def ids_of(rows):
    return [row.ids for row in rows]


@pytest.fixture
def alike():
    """Five prompts that begin with the same 70 tokens, one of them three times, three that share 40 others, and two."""
    generator = torch.Generator().manual_seed(6)

    def some(length):
        return torch.randint(3, 64, (length,), generator=generator).tolist()

    common = some(70)
    same = common + some(2)
    longer = [common + some(length) for length in (3, 7)]
    other = some(40)
    shorter = [other + some(length) for length in (1, 5, 9)]
    return [same, some(4), *shorter, same, *longer, some(12), same]


def test_greedy_equals_hf_generate(model, prompts):
    """HF's own loop, without anything of ours in it."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    seen = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    model.generation_config.eos_token_id = None
    batch = model.generate(ids, attention_mask=seen, do_sample=False, max_new_tokens=12)[:, width:].tolist()
    single = [
        model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=12
        )[0, len(prompt) :].tolist()
        for prompt in prompts
    ]
    assert batch == single
    for read in (sample, generate):
        assert ids_of(draw(model, prompts, temperature=0.0, read=read)) == single
        assert [draw(model, [prompt], temperature=0.0, read=read)[0].ids for prompt in prompts] == single


def test_sampling_equals_a_slow_loop_whatever_the_batch(model, prompts):
    model = model.double()
    alone = [draw(model, [prompt], [key])[0] for key, prompt in enumerate(prompts)]
    assert alone[0].ids == continued(model, prompts[0], 0)
    for key, row in enumerate(alone):
        check_continuation(model, prompts[key], row, key)
    for read in (sample, generate):
        assert draw(model, prompts, read=read) == alone
        assert draw(model, prompts[::-1], list(range(len(prompts)))[::-1], read=read) == alone[::-1]


@pytest.mark.parametrize(
    ("model", "slots"), [*((kind, 3) for kind in KINDS), ("llama", 1), ("gpt2", 64)], indirect=["model"]
)
def test_long_beginnings_duplicates_and_slots_change_nothing(model, alike, slots):
    """Rows of many lengths, half of them warm, that end at different steps."""
    model = model.double()
    temperatures = [1.0, 0.0, 0.7, 1.3, 0.0, 1.0, 1.0, 2.0, 1.0, 1.0]
    limits = [12, 3, 20, 1, 7, 20, 12, 9, 20, 2]
    eos = (20, 21, 22)
    settings = dict(temperatures=temperatures, limits=limits, eos=eos, slots=slots)
    for read in (sample, generate) if slots == 3 else (sample,):
        rows = draw(model, alike, read=read, **settings)
        for key, (prompt, row) in enumerate(zip(alike, rows, strict=True)):
            check_continuation(model, prompt, row, key, temperature=temperatures[key], limit=limits[key], eos=eos)
        assert len({len(row.ids) for row in rows}) > 4


@TWO
def test_rows_leave_when_they_end_and_the_others_go_on(model, prompts):
    model = model.double()
    eos = tuple(range(20, 28))  # an eighth of the vocabulary, so that most rows end, at different steps
    many = [prompt for prompt in prompts for _ in range(4)]
    rows = draw(model, many, eos=eos, slots=5)
    assert draw(model, many, eos=eos, slots=24) == rows
    for key, (prompt, row) in enumerate(zip(many, rows, strict=True)):
        check_continuation(model, prompt, row, key, eos=eos)
    assert len({len(row.ids) for row in rows}) > 4


def test_growing_past_a_block_of_keys_changes_nothing(llama, prompts):
    llama = llama.double()
    for key, row in enumerate(draw(llama, prompts, limit=50)):
        check_continuation(llama, prompts[key], row, key, limit=50)


@TWO
def test_rows_of_equal_length_need_no_mask(model):
    model = model.double()
    rows = [[5, 6, 7], [8, 9, 10]]
    for key, row in enumerate(draw(model, rows)):
        check_continuation(model, rows[key], row, key)


@TWO
def test_rows_that_ended_do_not_grow_past_the_models_positions(model):
    """One row in ten is too few to be let go; it ends at 45 of 128 positions, the others draw 85 tokens more."""
    prompts = [[5, 6, 7]] * 9 + [[*range(3, 43)]]
    limits = [90] * 9 + [5]
    found = draw(model, prompts, limits=limits, slots=10)
    assert [len(row.ids) for row in found] == limits
    expected = draw(model, prompts[:1] + prompts[-1:], [0, 9], limits=[90, 5], slots=1)
    assert [found[0], found[9]] == expected


def test_sliding_windows_are_honoured_by_generate(mistral_with_window, prompts):
    model = mistral_with_window.double()
    for key, row in enumerate(draw(model, prompts, read=generate)):
        check_continuation(model, prompts[key], row, key)
    with pytest.raises(ValueError, match=r"MistralForCausalLM: its window of 8 tokens is shorter.*use route padded"):
        draw(model, prompts)
    short = [[5, 6, 7], [8, 9]]
    for key, row in enumerate(draw(model, short, limit=5)):
        check_continuation(model, short[key], row, key, limit=5)


def test_temperature_seed_and_row_matter(llama, prompts):
    llama = llama.double()
    assert draw(llama, prompts, temperature=0.5)[0].ids == continued(llama, prompts[0], 0, temperature=0.5)
    base = ids_of(draw(llama, prompts))
    assert base == ids_of(draw(llama, prompts))
    assert all(a != row.ids for a, row in zip(base, draw(llama, prompts, seed=4), strict=True))
    same = draw(llama, [prompts[0]] * 3, [1, 2, 1])
    assert same[0] == same[2] != same[1]


@pytest.mark.parametrize("read", [sample, generate])
def test_stop_strings_end_a_row_across_tokens(byte_llama, byte_level, read):
    byte_llama = byte_llama.double()
    prompt = [60, 61, 62]
    free = draw(byte_llama, [prompt], limit=30, read=read)[0].ids
    text = byte_level.decode(free[10:12])
    stop = StopStrings(byte_level, (text,), vocab=270)
    rows = draw(byte_llama, [prompt, [70]], limit=30, stop=stop, read=read)
    assert rows[0].ids == free[: len(rows[0].ids)] and 2 <= len(rows[0].ids) <= 12
    assert text in byte_level.decode(rows[0].ids) and text not in byte_level.decode(rows[0].ids[:-1])
    assert rows[0].finish == "stop"


@pytest.mark.parametrize("read", [sample, generate])
def test_a_row_that_stops_with_its_last_token_has_stopped(llama, read):
    free = draw(llama, [[5, 6]], limit=4, read=read)[0].ids
    assert free[3] not in free[:3]
    (row,) = draw(llama, [[5, 6]], limit=4, eos=(free[3],), read=read)
    assert row == Sampled(free, "stop")
    assert draw(llama, [[5, 6]], limit=3, eos=(free[3],), read=read)[0] == Sampled(free[:3], "length")


@pytest.mark.parametrize("read", [sample, generate])
def test_what_is_told_on_the_way_is_what_comes_out(llama, prompts, read):
    told, ended = {}, []
    rows = draw(
        llama,
        prompts,
        limits=[5, 0, 1, 9, 9, 3],
        slots=2,
        read=read,
        on_token=lambda row, id: told.setdefault(row, []).append(id),
        on_end=ended.append,
    )
    assert [told.get(row, []) for row in range(6)] == ids_of(rows)
    assert [len(row.ids) for row in rows] == [5, 0, 1, 9, 9, 3]
    assert sum(ended) == 5 and all(ended)


@pytest.mark.parametrize("read", [sample, generate])
def test_the_mode_of_every_module_is_restored(llama, prompts, read):
    llama.train()
    llama.model.layers[0].eval()
    draw(llama, prompts, limit=1, read=read)
    assert llama.training and not llama.model.layers[0].training and llama.model.layers[1].training
    with pytest.raises(IndexError):
        draw(llama, [[9999]], read=read)
    assert llama.training and not llama.model.layers[0].training


@pytest.mark.parametrize("read", [sample, generate])
def test_nothing_to_draw(llama, read):
    assert draw(llama, [], read=read) == []
    assert draw(llama, [[3]], limit=0, read=read) == [Sampled([], "length")]
    with pytest.raises(ValueError, match="no token"):
        draw(llama, [[3], []], read=read)


@TWO
def test_works_under_autocast_and_in_bfloat16(model, alike):
    with torch.autocast("cpu", torch.bfloat16):
        assert len(draw(model, alike)[0].ids) == 12
    assert len(draw(model.bfloat16(), alike)[0].ids) == 12


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_what_the_cpu_draws(model, prompts):
    model = model.double()
    expected = draw(model, prompts)
    assert draw(model.cuda(), prompts) == expected


def test_the_first_token_follows_the_softmax(llama):
    count = 4000
    rows = draw(llama, [[5, 9]] * count, temperature=1.5, limit=1, slots=count)
    found = torch.tensor([row.ids[0] for row in rows]).bincount(minlength=64) / count
    with torch.no_grad():
        expected = torch.softmax(llama(torch.tensor([[5, 9]])).logits[0, -1] / 1.5, -1)
    assert ((found - expected).abs() < 4.5 * (expected * (1 - expected) / count).sqrt() + 1e-3).all()


def test_cold_and_warm_rows_draw_side_by_side():
    logits = torch.tensor([[0.0, 5.0, 1.0]]).repeat(400, 1)
    temperatures = torch.tensor([0.0, 1000.0]).repeat(200)
    found = draws(logits, torch.arange(400), torch.zeros(400, dtype=torch.int64), seed=1, temperatures=temperatures)
    assert (found[::2] == 1).all()
    # so warm that the three ids are about equally likely
    assert found[1::2].bincount(minlength=3).min() > 200 / 3 - 4 * (200 * 2 / 9) ** 0.5


def test_end_tokens_outrank_stop_strings(byte_level):
    stop = StopStrings(byte_level, ("a",), vocab=270)
    a, b = byte_level.convert_tokens_to_ids(["a", "b"])
    kinds = token_kinds(270, (a, 1), stop)
    assert (kinds[a], kinds[1], kinds[b]) == (2, 2, 0)
    assert token_kinds(270, (), stop)[a] == 1 and not token_kinds(270, (), None).any()


# What is read, counted.


def test_steps_and_rows_by_hand(llama):
    """Two slots, three rows with limits of 3, 1 and 2 tokens.

    Both first rows draw; the second one has ended, so the step reads one row and the third prompt is read. Two rows
    draw and are read; both draw their last token, which nobody reads.
    """
    counts = Counts()
    draw(llama, [[5, 6], [7, 8], [9, 10, 11]], limits=[3, 1, 2], slots=2, counts=counts)
    assert counts == Counts(prompt_tokens=7, steps=2, rows=3)


def test_slots_are_filled_again_as_rows_end(llama):
    """Four slots, eight rows that draw 2, 2, 2, 8 tokens, twice: as two batches 14 steps.

    After two draws three rows end and three others take their slots. After two more these end, and the last row, a
    long one, begins while the first long one has four draws to go. It has eight: 2 + 2 + 8 draws, all but the last of
    which a step follows.
    """
    counts = Counts()
    rows = draw(llama, [[5 + row] for row in range(8)], limits=[2, 2, 2, 8] * 2, counts=counts)
    assert [len(row.ids) for row in rows] == [2, 2, 2, 8] * 2
    # every token but a row's last one is read, and nothing else
    assert counts == Counts(prompt_tokens=8, steps=11, rows=2 * (1 + 1 + 1 + 7))


def test_equal_prompts_are_read_once(llama):
    counts = Counts()
    found = draw(llama, [[5, 6, 7]] * 6 + [[8, 9]], counts=counts, slots=7)
    assert counts.prompt_tokens == 3 + 2
    alone = [draw(llama, [[5, 6, 7]], [key])[0] for key in range(6)]
    assert ids_of(found[:6]) == ids_of(alone)


@TWO
def test_a_beginning_is_read_once_over_several_calls(model, alike):
    model, counts = model.double(), Counts()
    kept = Prefixes(model)
    expected = ids_of(draw(model, alike, limit=3))
    assert kept.read == 0
    for _ in range(3):
        assert ids_of(draw(model, alike, limit=3, slots=10, prefixes=kept, counts=counts)) == expected
    # 70 common ids are cut to 64 and 40 to 32: read once each; behind them three rows each, then the other two
    assert kept.read == 2
    assert counts.prompt_tokens == 3 * ((8 + 9 + 13) + (9 + 13 + 17) + (4 + 12))


# HF's loop reads settings of the model that ours does not know.


def test_a_models_own_settings_do_not_leak_into_generate(llama, prompts):
    expected = draw(llama, prompts, read=generate), draw(llama, prompts, temperature=0.0, read=generate)
    assert expected[0] == draw(llama, prompts)
    own = llama.generation_config
    own.repetition_penalty, own.no_repeat_ngram_size, own.suppress_tokens = 50.0, 1, [*range(30)]
    own.min_new_tokens, own.max_length, own.eos_token_id, own.num_beams = 5, 7, [*range(64)], 3
    own.do_sample, own.temperature, own.top_k = True, 0.1, 2
    assert (draw(llama, prompts, read=generate), draw(llama, prompts, temperature=0.0, read=generate)) == expected
    assert llama.generation_config is own and own.repetition_penalty == 50.0
    with pytest.raises(IndexError):
        draw(llama, [[9999]], read=generate)
    assert llama.generation_config is own


def test_models_that_must_be_padded_are_refused_by_our_loop_and_read_by_hfs():
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4)).eval()
    prompts = [[5, 6, 7], [8], [9, 10]]
    with pytest.raises(ValueError, match=r"BloomForCausalLM: .*no exchangeable attention.*use route padded") as error:
        draw(model, prompts)
    assert "\n" not in str(error.value)
    for key, row in enumerate(draw(model, prompts, read=generate)):
        check_continuation(model, prompts[key], row, key)


@pytest.mark.parametrize("read", [sample, generate])
def test_a_model_that_drops_attention_weights_while_it_learns_drops_none_here(read):
    model = make_model("gpt2", 64)
    expected = draw(model, [[5, 6, 7]])
    assert model.config.attn_pdrop > 0
    assert draw(model.train(), [[5, 6, 7]], read=read) == expected and model.training


def test_prompts_are_read_in_pieces_of_about_so_many_tokens():
    texts = [(1,) * length for length in (3, 3, 4, 5, 12, 1, 1)]
    assert [[len(text) for text in piece] for piece in pieces(texts, 10)] == [[3, 3, 4], [5], [12], [1, 1]]
    assert pieces([], 10) == []


@TWO
@pytest.mark.parametrize("tokens", [1, 9, 40])
def test_what_rows_draw_does_not_depend_on_thepieces(model, alike, monkeypatch, tokens):
    whole = ids_of(draw(model.double(), alike, slots=10))
    monkeypatch.setattr(sampler, "_TOGETHER_CPU", tokens)
    assert ids_of(draw(model, alike, slots=10)) == whole
