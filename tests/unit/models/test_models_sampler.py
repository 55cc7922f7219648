from __future__ import annotations

import pytest
import torch

from cai_lightning.models.noise import gumbel
from cai_lightning.models.sampler import sample
from cai_lightning.models.stopping import StopStrings

NEVER = ()


def draw(model, prompts, keys=None, **changes):
    settings = dict(seed=3, temperature=1.0, max_new_tokens=20, eos=NEVER, stop=None) | changes
    return sample(model, prompts, row_keys=keys or list(range(len(prompts))), **settings)


def slow(model, prompt, key, *, seed=3, temperature=1.0, steps=20, eos=NEVER):
    """One row, the whole text through the model at every step."""
    ids = list(prompt)
    for step in range(steps):
        with torch.no_grad():
            logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1].float()
        if temperature:
            logits = logits / temperature + gumbel(seed, torch.tensor([key]), step, len(logits))[0]
        ids.append(int(logits.argmax()))
        if ids[-1] in eos:
            break
    return ids[len(prompt) :]


def test_greedy_equals_hf_generate(model, prompts):
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    seen = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    model.generation_config.eos_token_id = None
    batch = model.generate(ids, attention_mask=seen, do_sample=False, max_new_tokens=20)[:, width:].tolist()
    single = [
        model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=20
        )[0, len(prompt) :].tolist()
        for prompt in prompts
    ]
    assert batch == single
    assert [row.ids for row in draw(model, prompts, temperature=0.0)] == single
    assert [draw(model, [prompt], temperature=0.0)[0].ids for prompt in prompts] == single


def test_sampling_equals_a_slow_loop_whatever_the_batch(model, prompts):
    model = model.double()
    expected = [slow(model, prompt, key) for key, prompt in enumerate(prompts)]
    assert [row.ids for row in draw(model, prompts)] == expected
    for key, prompt in enumerate(prompts):
        assert draw(model, [prompt], [key])[0].ids == expected[key]
    turned = draw(model, prompts[::-1], list(range(len(prompts)))[::-1])
    assert [row.ids for row in turned] == expected[::-1]


def test_rows_leave_when_they_end_and_the_others_go_on(model, prompts):
    model = model.double()
    eos = tuple(range(20, 28))  # an eighth of the vocabulary, so that most rows end, at different steps
    many = [prompt for prompt in prompts for _ in range(4)]
    rows = draw(model, many, eos=eos)
    for key, (prompt, row) in enumerate(zip(many, rows, strict=True)):
        assert row.ids == slow(model, prompt, key, eos=eos)
        assert row.finish == ("stop" if row.ids[-1] in eos else "length")
        assert not set(row.ids[:-1]) & set(eos)
    assert len({len(row.ids) for row in rows}) > 4


def test_growing_past_a_block_of_the_cache_changes_nothing(llama, prompts):
    llama = llama.double()
    assert draw(llama, prompts, max_new_tokens=50)[2].ids == slow(llama, prompts[2], 2, steps=50)


def test_rows_of_equal_length_need_no_mask(model):
    model = model.double()
    rows = [[5, 6, 7], [8, 9, 10]]
    assert [row.ids for row in draw(model, rows)] == [slow(model, prompt, key) for key, prompt in enumerate(rows)]


def test_sliding_windows_are_honoured(mistral_with_window, prompts):
    model = mistral_with_window.double()
    assert [row.ids for row in draw(model, prompts)] == [slow(model, p, k) for k, p in enumerate(prompts)]


def test_temperature_seed_and_row_matter(llama, prompts):
    llama = llama.double()
    assert draw(llama, prompts, temperature=0.5)[0].ids == slow(llama, prompts[0], 0, temperature=0.5)
    base = [row.ids for row in draw(llama, prompts)]
    assert base == [row.ids for row in draw(llama, prompts)]
    assert all(a != row.ids for a, row in zip(base, draw(llama, prompts, seed=4), strict=True))
    same = draw(llama, [prompts[0]] * 3, [1, 2, 1])
    assert same[0] == same[2] != same[1]


def test_stop_strings_end_a_row_across_tokens(byte_llama, byte_level):
    byte_llama = byte_llama.double()
    prompt = [60, 61, 62]
    free = draw(byte_llama, [prompt], max_new_tokens=30)[0].ids
    text = byte_level.decode(free[10:12])
    stop = StopStrings(byte_level, (text,), vocab=270)
    rows = draw(byte_llama, [prompt, [70]], max_new_tokens=30, stop=stop)
    assert rows[0].ids == free[: len(rows[0].ids)] and 2 <= len(rows[0].ids) <= 12
    assert text in byte_level.decode(rows[0].ids) and text not in byte_level.decode(rows[0].ids[:-1])
    assert rows[0].finish == "stop"


def test_the_mode_of_every_module_is_restored(llama, prompts):
    llama.train()
    llama.model.layers[0].eval()
    draw(llama, prompts, max_new_tokens=1)
    assert llama.training and not llama.model.layers[0].training and llama.model.layers[1].training
    with pytest.raises(IndexError):
        draw(llama, [[9999]])
    assert llama.training and not llama.model.layers[0].training


def test_nothing_to_draw(llama):
    assert draw(llama, []) == []
    assert draw(llama, [[3]], max_new_tokens=0)[0].ids == []
    with pytest.raises(ValueError, match="no token"):
        draw(llama, [[3], []])


def test_works_under_autocast_and_in_bfloat16(model, prompts):
    with torch.autocast("cpu", torch.bfloat16):
        assert len(draw(model, prompts)[0].ids) == 20
    assert len(draw(model.bfloat16(), prompts)[0].ids) == 20


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_what_the_cpu_draws(model, prompts):
    model = model.double()
    expected = draw(model, prompts)
    assert draw(model.cuda(), prompts) == expected


def test_the_first_token_follows_the_softmax(llama):
    count = 4000
    rows = draw(llama, [[5, 9]] * count, temperature=1.5, max_new_tokens=1)
    found = torch.tensor([row.ids[0] for row in rows]).bincount(minlength=64) / count
    with torch.no_grad():
        expected = torch.softmax(llama(torch.tensor([[5, 9]])).logits[0, -1] / 1.5, -1)
    assert ((found - expected).abs() < 4.5 * (expected * (1 - expected) / count).sqrt() + 1e-3).all()
