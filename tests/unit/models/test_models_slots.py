from __future__ import annotations

import pytest
import torch
from model_oracles import last_states, logits_alone

from cai_lightning.models.attention import why_padded
from cai_lightning.models.packing import Tree, pack
from cai_lightning.models.slots import Cohort, Prefixes, read_prompts, read_tokens

PREFIX = (5, 9, 13, 7)
TAILS = [[20], [21, 22, 23], [24, 25]]


@pytest.fixture
def prepared(model):
    assert why_padded(model, 64) is None
    with torch.no_grad():
        yield model.double()


def check(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)  # merged by sums in float32


def started(model, prefix, parts, first=3):
    """Cohorts of rows whose prompts are the prefix and one of TAILS each, and the rows' texts and last states.

    The `first` of TAILS are read in one pack, the others in another.
    """
    packs = [pack([Tree((), (tail,)) for tail in some]) for some in (TAILS[:first], TAILS[first:]) if some]
    before = torch.tensor([0, len(packs[0].ids)])
    starts, stops = torch.cat([packed.branches + at for packed, at in zip(packs, before, strict=False)]).T
    cohorts = [
        (Cohort(prefix, [len(TAILS[row]) for row in part], model.device), starts[torch.tensor(part)]) for part in parts
    ]
    states = read_prompts(model, packs, prefix, cohorts)
    rows = [row for part in parts for row in part]
    return [cohort for cohort, _ in cohorts], rows, states[stops[torch.tensor(rows)] - 1]


@pytest.mark.parametrize("ids", [(), PREFIX])
@pytest.mark.parametrize("first", [3, 1])
@pytest.mark.parametrize("parts", [[[0, 1, 2]], [[0], [2, 1]], [[1, 1, 0], [2]]])
def test_rows_grow_token_by_token_as_whole_texts_would(prepared, parts, ids, first):
    """Over more than a block of columns; two rows may have one prompt."""
    model, prefix = prepared, Prefixes(prepared)(ids)
    cohorts, rows, states = started(model, prefix, parts, first)
    texts = [[*ids, *TAILS[row]] for row in rows]
    check(states, last_states(model, texts))
    for step in range(20):
        new = [3 + (7 * step + 5 * row) % 60 for row in range(len(texts))]
        assert torch.cat([cohort.positions for cohort in cohorts]).tolist() == [len(text) for text in texts]
        for text, id in zip(texts, new, strict=True):
            text.append(id)
        check(read_tokens(model, torch.tensor(new), cohorts), last_states(model, texts))


def test_rows_that_are_let_go_are_not_missed(prepared):
    model, prefix = prepared, Prefixes(prepared)(PREFIX)
    (cohort,), rows, _ = started(model, prefix, [[1, 0, 2, 1]])
    texts = [[*PREFIX, *TAILS[row]] for row in rows]
    for kept in ([0, 1, 2, 3], [3, 0, 2], [1], [0]):
        cohort.keep(torch.tensor(kept))
        texts = [texts[row] for row in kept]
        new = [30 + row for row in range(len(kept))]
        texts = [[*text, id] for text, id in zip(texts, new, strict=True)]
        assert len(cohort) == len(kept)
        check(read_tokens(model, torch.tensor(new), [cohort]), last_states(model, texts))


def test_cohorts_behind_different_beginnings_are_read_side_by_side(prepared):
    model, prefixes = prepared, Prefixes(prepared)
    beginnings = [PREFIX, (), (40, 41), PREFIX]
    started_ones = [started(model, prefixes(ids), [[row]]) for ids, row in zip(beginnings, (0, 1, 2, 2), strict=True)]
    cohorts = [cohort for (cohort,), _, _ in started_ones]
    texts = [[*ids, *TAILS[row]] for ids, row in zip(beginnings, (0, 1, 2, 2), strict=True)]
    for step in range(3):
        texts = [[*text, 50 + step] for text in texts]
        check(read_tokens(model, torch.tensor([50 + step] * 4), cohorts), last_states(model, texts))


def test_a_beginning_is_read_once_while_it_is_among_the_last_used(llama):
    why_padded(llama, 8)
    passes = []
    llama.model.layers[0].register_forward_pre_hook(lambda _, given: passes.append(given[0].shape[1]))
    kept = Prefixes(llama, room=2)
    with torch.inference_mode():
        first = kept((5, 6, 7))
        assert kept((5, 6, 7)) is first and first.length == 3
        second = kept((8, 9))
        assert kept((5, 6, 7)) is first  # used again, so the other is the older one
        kept((10,))
        assert kept((5, 6, 7)) is first
        assert kept((8, 9)) is not second
    assert passes == [3, 2, 1, 2] and kept.read == 4


def test_no_beginning_is_nothing_to_read(llama):
    kept = Prefixes(llama)
    assert kept(()).length == 0 and kept(()).keys == [] and kept.read == 0


def test_keys_are_those_of_the_models_own_cache(prepared):
    """What is kept of a beginning, against what transformers keeps."""
    prefix = Prefixes(prepared)(PREFIX)
    cache = prepared(torch.tensor([PREFIX]), use_cache=True).past_key_values
    for layer, (keys, values) in enumerate(zip(prefix.keys, prefix.values, strict=True)):
        check(keys.transpose(0, 1)[None], cache.layers[layer].keys)
        check(values.transpose(0, 1)[None], cache.layers[layer].values)


def test_half_precision_is_near_double(model):
    why_padded(model, 64)
    texts = [[*PREFIX, *TAILS[row]] for row in (0, 1, 2)]
    expected = [logits_alone(model, [*text, 33])[-1] for text in texts]
    model.bfloat16()
    with torch.no_grad():
        cohorts, _, _ = started(model, Prefixes(model)(PREFIX), [[0, 1, 2]])
        states = read_tokens(model, torch.tensor([33] * 3), cohorts)
        assert states.dtype == torch.bfloat16
        found = model.get_output_embeddings()(states).float()
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < 0.05 * other.norm()
