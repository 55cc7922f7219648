from __future__ import annotations

import inspect
import math
from itertools import pairwise

import pytest
import torch
from model_oracles import seen, slow_attention
from torch.nn.attention import varlen as torchs

from cai_lightning.models.packing import Segment
from cai_lightning.models.segments import (
    Plan,
    Run,
    Shared,
    attend,
    attend_alone,
    attend_to,
    attend_with_sums,
    merge,
    plan,
)
from cai_lightning.models.varlen import elsewhere, explicit, plain, ragged

SCALE = 0.37


def row(*trees):
    """The segments of trees, given by lengths: those of their prompts and of their branches, one after the other."""
    segments, at = [], 0
    for prompt, first, *others in trees:
        start, fork = at, at + prompt
        at = fork + first
        segments.append(Segment(start, at, start, start))
        for length in others:
            segments.append(Segment(at, at + length, start, fork))
            at += length
    return tuple(segments)


ROWS = {
    "one text": row((0, 6)),
    "one token": row((0, 1)),
    "plain texts": row((0, 3), (0, 1), (0, 5), (2, 2)),
    "equal lengths": row((0, 4), (0, 4), (0, 4)),
    "branches": row((5, 2, 3, 1)),
    "equal branches": row((3, 2, 2, 2)),
    "a prompt of one token": row((1, 1, 1)),
    "empty contexts": row((0, 2, 3, 2)),
    "all of it": row((0, 3), (4, 2, 3), (0, 2, 2), (2, 1, 1, 4), (0, 5)),
}
HEADS = [(4, 4), (4, 2), (3, 1)]


def heads(segments, shape, *, before=0, dtype=torch.float64, width=8):
    """Queries, keys and values, the latter two of `before` more tokens."""
    generator = torch.Generator().manual_seed(1)
    tokens = segments[-1].stop
    lengths = ((tokens, shape[0]), (before + tokens, shape[1]), (before + tokens, shape[1]))
    return [torch.randn(*size, width, generator=generator, dtype=torch.float64).to(dtype) for size in lengths]


def gradients(read, q, k, v):
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    out = read(*leaves)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (out.double() * weights).sum().backward()
    return [out.detach(), *(x.grad for x in leaves)]


def check(found, expected, atol=1e-9):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other.double(), atol=atol, rtol=0)


@pytest.mark.parametrize("shape", HEADS)
@pytest.mark.parametrize("name", ROWS)
def test_results_and_gradients_equal_a_slow_loop(name, shape):
    segments = ROWS[name]
    given = heads(segments, shape)
    found = gradients(lambda q, k, v: attend(q, k, v, segments, scale=SCALE), *given)
    check(found, gradients(lambda q, k, v: slow_attention(q, k, v, seen(segments), SCALE)[0], *given))


def test_float32_is_exact_to_its_rounding_and_bfloat16_to_its_own():
    segments = ROWS["all of it"]
    expected = gradients(
        lambda q, k, v: slow_attention(q, k, v, seen(segments), SCALE)[0],
        *(x.bfloat16().double() for x in heads(segments, (4, 2))),
    )
    # a rounding to bfloat16 is off by up to 2^-9 of a number; weights, parts, their sum and the result are rounded
    for dtype, share in ((torch.float32, 1e-6), (torch.bfloat16, 4 * 2.0**-9)):
        given = [x.bfloat16().to(dtype) for x in heads(segments, (4, 2))]
        found = gradients(lambda q, k, v: attend(q, k, v, segments, scale=SCALE), *given)
        assert {x.dtype for x in found} == {dtype}
        for one, other in zip(found, expected, strict=True):
            assert (one.double() - other).norm() <= share * other.norm()


@pytest.mark.parametrize("width", [1, 5, 80])
def test_heads_of_any_width(width):
    segments = ROWS["all of it"]
    given = heads(segments, (2, 1), width=width)
    found = gradients(lambda q, k, v: attend(q, k, v, segments, scale=SCALE), *given)
    check(found, gradients(lambda q, k, v: slow_attention(q, k, v, seen(segments), SCALE)[0], *given))


def test_long_segments_equal_torchs_own_attention():
    """More tokens than a block of the fused kernel, where a slow loop would take its time."""
    segments = row((0, 300), (150, 70, 70, 200))
    q, k, v = heads(segments, (2, 1), dtype=torch.float32, width=16)
    visible = torch.zeros(len(q), len(k), dtype=torch.bool)
    for token, sight in enumerate(seen(segments)):
        visible[token, sight] = True

    def dense(q, k, v):
        rows = (x.transpose(0, 1)[None].double() for x in (q, k, v))
        return torch.nn.functional.scaled_dot_product_attention(*rows, attn_mask=visible, scale=SCALE, enable_gqa=True)[
            0
        ].transpose(0, 1)

    found = gradients(lambda q, k, v: attend(q, k, v, segments, scale=SCALE), q, k, v)
    check(found, gradients(dense, q, k, v), atol=1e-4)  # sums of 500 float32 numbers
    assert not any(x.isnan().any() for x in found)


def test_no_number_of_one_text_reaches_another():
    segments = row((0, 3), (2, 2, 2), (0, 4))
    q, k, v = heads(segments, (2, 2))
    clean = attend(q, k, v, segments, scale=SCALE)
    q[3:7], k[3:7], v[3:7] = math.nan, math.inf, math.nan  # the second tree, but for its last branch's end
    found = attend(q, k, v, segments, scale=SCALE)
    assert torch.equal(found[:3], clean[:3]) and torch.equal(found[9:], clean[9:])


def test_neighbours_of_one_length_are_one_run_and_those_of_one_context_one_call():
    # texts of 3, 3 and 2; then a prompt of 4 with branches of 1, 2 and 2: a text of 5, and 2 and 2 behind the prompt
    assert plan(row((0, 3), (0, 3), (0, 2), (4, 1, 2, 2))) == Plan(
        (Run(0, 2, 3), Run(6, 1, 2), Run(8, 1, 5), Run(13, 2, 2)), (Shared(13, 17, 8, 12),)
    )
    # contexts of two trees do not mix, and neither do equal lengths that do not touch
    assert plan(row((1, 1, 2), (1, 1, 2))) == Plan((Run(0, 4, 2),), (Shared(2, 4, 0, 1), Shared(6, 8, 4, 5)))
    assert plan((Segment(0, 2, 0, 0), Segment(3, 5, 0, 0))) == Plan((Run(0, 1, 2), Run(3, 1, 2)), ())
    assert plan(()) == Plan((), ())


def test_two_sets_of_keys_are_merged_by_their_weights():
    # a sum of weights of 1 over one set and of 3 over the other: a quarter, three quarters, and 4 over both
    one, other = torch.tensor([[[8.0, 0.0]]]), torch.tensor([[[0.0, 4.0]]])
    out, total = merge(one, torch.tensor([[0.0]]), other, torch.tensor([[math.log(3)]]))
    torch.testing.assert_close(out, torch.tensor([[[2.0, 3.0]]]))
    torch.testing.assert_close(total, torch.tensor([[math.log(4)]]))


def test_a_merge_survives_sums_that_overflow_and_sets_that_say_nothing():
    one, other = torch.tensor([[[1.0]]]), torch.tensor([[[5.0]]])
    out, total = merge(one, torch.tensor([[1000.0]]), other, torch.tensor([[1000.0]]))
    # float32 numbers near 1000 lie 6e-5 apart
    assert out.item() == pytest.approx(3.0, abs=5e-4) and total.item() == pytest.approx(1000 + math.log(2), abs=1e-4)
    for sums in (-math.inf, torch.finfo(torch.float32).min):
        out, total = merge(one, torch.tensor([[2.0]]), other, torch.tensor([[sums]]))
        assert (out.item(), total.item()) == (1.0, 2.0)


def test_a_merge_keeps_the_states_number_format():
    half = torch.ones(2, 3, 4, dtype=torch.bfloat16)
    out, total = merge(half, torch.zeros(2, 3), half, torch.zeros(2, 3))
    assert (out.dtype, total.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("shape", HEADS)
@pytest.mark.parametrize("name", ["one token", "plain texts", "all of it"])
def test_keys_in_front_of_the_row_are_seen_by_all(name, shape):
    segments = ROWS[name]
    q, k, v = heads(segments, shape, before=3)
    found = attend_to(q, k[3:], v[3:], segments, k[:3], v[:3], scale=SCALE)
    check([found], [slow_attention(q, k, v, seen(segments, before=3), SCALE)[0]], atol=1e-6)  # sums in float32


@pytest.mark.parametrize("shape", HEADS)
def test_one_token_a_row_reads_its_row_of_keys_and_no_masked_column(shape):
    rows, columns = 3, 5
    generator = torch.Generator().manual_seed(4)
    q = torch.randn(rows, shape[0], 8, generator=generator)
    keys, values = torch.randn(2, rows, shape[1], columns, 8, generator=generator).unbind()
    sights = [[0, 1, 2, 3, 4], [2, 3], [4]]
    mask = torch.full((rows, 1, 1, columns), torch.finfo(torch.float32).min)
    for place, sight in enumerate(sights):
        mask[place, ..., sight] = 0
    out, sums = attend_with_sums(q, keys, values, mask, scale=SCALE)
    flat = [x.transpose(1, 2).flatten(0, 1) for x in (keys, values)]
    where = [[place * columns + each for each in sight] for place, sight in enumerate(sights)]
    expected = slow_attention(q, *flat, where, SCALE)
    check([out, sums], expected, atol=1e-5)
    check([attend_alone(q, keys, values, mask, scale=SCALE)], expected[:1], atol=1e-5)
    half = [x.bfloat16() for x in (q, keys, values, mask)]
    check([attend_alone(*half, scale=SCALE).float()], expected[:1], atol=0.05)  # bfloat16 has eight bits
    out, sums = attend_with_sums(q, keys, values, None, scale=SCALE)
    every = [[place * columns + each for each in range(columns)] for place in range(rows)]
    check([out, sums], slow_attention(q, *flat, every, SCALE), atol=1e-5)


@pytest.mark.parametrize("shape", HEADS)
def test_one_token_a_row_reads_keys_that_are_the_same_for_all(shape):
    q, keys, values = heads(row((0, 4)), shape, before=3, dtype=torch.float32)
    out, sums = attend_with_sums(q, keys, values, None, scale=SCALE)
    check([out, sums], slow_attention(q, keys, values, [[*range(7)]] * 4, SCALE), atol=1e-5)


def layout_of(segments, before=0):
    found = ragged(segments, before)
    return [each.tolist() if isinstance(each, torch.Tensor) else each for each in found]


def test_variable_length_layouts_by_hand():
    # two texts of 2 and 3 tokens: the keys are the row's own
    assert layout_of(row((0, 2), (0, 3))) == [[0, 1, 2, 3, 4], [0, 2, 5], [0, 2, 5], 3, 3]
    # a prompt of 2 with branches of 1 and 2: the second branch reads the prompt's keys again
    assert layout_of(row((2, 1, 2))) == [[0, 1, 2, 0, 1, 3, 4], [0, 3, 5], [0, 3, 7], 3, 4]
    # the same behind 2 more keys, which all read first
    assert layout_of(row((2, 1, 2)), before=2) == [
        [0, 1, 2, 3, 4, 0, 1, 2, 3, 5, 6],
        [0, 3, 5],
        [0, 5, 11],
        3,
        6,
    ]
    assert {ragged(row((0, 2)), 0).query_starts.dtype, ragged(row((0, 2)), 0).key_starts.dtype} == {torch.int32}


@pytest.mark.parametrize("shape", HEADS)
@pytest.mark.parametrize("name", ROWS)
def test_the_layout_for_gpus_with_explicit_scores_equals_the_cpus(name, shape):
    segments = ROWS[name]
    given = heads(segments, shape, dtype=torch.float32)
    expected = gradients(lambda q, k, v: attend(q, k, v, segments, scale=SCALE), *given)
    found = gradients(lambda q, k, v: elsewhere(q, k, v, segments, before=0, scale=SCALE), *given)
    check(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["plain texts", "all of it"])
def test_the_layout_for_gpus_behind_a_beginning_equals_the_cpus(name):
    segments = ROWS[name]
    q, k, v = heads(segments, (4, 2), before=3, dtype=torch.float32)
    expected = attend_to(q, k[3:], v[3:], segments, k[:3], v[:3], scale=SCALE)
    check([elsewhere(q, k, v, segments, before=3, scale=SCALE)], [expected], atol=1e-5)


def test_explicit_scores_read_each_text_to_its_own_end():
    """Two queries with three keys: the first one sees two of them."""
    q, k, v = torch.zeros(2, 1, 1), torch.zeros(3, 1, 1), torch.tensor([[[3.0]], [[5.0]], [[10.0]]])
    found = explicit(q, k, v, ragged((Segment(0, 2, 0, 0),), 1), scale=1.0)
    assert found.flatten().tolist() == pytest.approx([4.0, 6.0], abs=1e-5)


def test_explicit_scores_of_half_precision_are_float32():
    """Scores of size 20 have no digit behind the point in bfloat16; sums are merged, so they need some."""
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(1, 2, 30, 64, generator=generator, dtype=torch.float64).bfloat16() for _ in range(3))
    q, k = 2 * q, 2 * k
    out, sums = plain(q, k, v, None, 0.125)
    scores = q.double() @ k.double().transpose(2, 3) * 0.125
    torch.testing.assert_close(sums.double(), scores.logsumexp(-1), atol=1e-4, rtol=0)
    expected = scores.softmax(-1) @ v.double()
    assert (out.double() - expected).norm() <= 2.0**-8 * expected.norm()


def stand_in(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa):
    """Flash attention's rule: texts by where they start, each text's causal mask aligned with the end of its keys."""
    assert window_size == (-1, 0) and enable_gqa == (query.shape[1] != key.shape[1])
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    starts, ends = cu_seq_q.tolist(), cu_seq_k.tolist()
    assert starts[-1] == len(query) and ends[-1] == len(key) == len(value)
    assert max_q == max(b - a for a, b in pairwise(starts))
    assert max_k == max(b - a for a, b in pairwise(ends))
    sights = []
    for (first, past), (start, end) in zip(pairwise(starts), pairwise(ends), strict=True):
        sights += [[*range(start, end - (past - 1 - token))] for token in range(first, past)]
    return slow_attention(query, key, value, sights, scale)[0].to(query.dtype)


@pytest.mark.parametrize("shape", HEADS)
@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("name", ROWS)
def test_the_layout_for_gpus_means_the_same_to_flash_attention(name, before, shape, monkeypatch):
    real, calls = inspect.signature(torchs.varlen_attn), []

    def call(*args, **settings):
        calls.append(real.bind(*args, **settings))
        return stand_in(*args, **settings)

    monkeypatch.setattr(torchs, "varlen_attn", call)
    segments = ROWS[name]
    q, k, v = heads(segments, shape, before=before, dtype=torch.bfloat16)
    found = elsewhere(q, k, v, segments, before=before, scale=SCALE)
    expected = slow_attention(q, k, v, seen(segments, before=before), SCALE)[0].bfloat16()
    assert len(calls) == 1 and torch.equal(found, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("shape", HEADS)
@pytest.mark.parametrize("name", ROWS)
def test_a_gpu_reads_what_the_cpu_reads(name, shape):
    segments = ROWS[name]
    for dtype, atol in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        given = heads(segments, shape, dtype=dtype)
        expected = gradients(lambda q, k, v: attend(q, k, v, segments, scale=SCALE), *given)
        found = gradients(lambda q, k, v: attend(q, k, v, segments, scale=SCALE).cpu(), *(x.cuda() for x in given))
        check([x.cpu() for x in found], expected, atol=atol)
