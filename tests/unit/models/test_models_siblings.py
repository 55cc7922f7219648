from __future__ import annotations

import pytest
import torch
from model_oracles import check_continuation, last_states

from cai_lightning.models import grouping, sampler
from cai_lightning.models.attention import why_padded
from cai_lightning.models.packing import Tree, pack
from cai_lightning.models.sampler import sample
from cai_lightning.models.siblings import Siblings
from cai_lightning.models.slots import Prefixes, read_prompts, read_tokens

PREFIX = (5, 9, 13, 7)
TAILS = [[20], [21, 22, 23], [24, 25]]


@pytest.fixture
def prepared(model):
    assert why_padded(model, 64) is None
    with torch.no_grad():
        yield model.double()


def started(model, ids, samples):
    """Siblings behind a beginning, `samples` of each of TAILS, and the rows' texts."""
    prefix, packed = Prefixes(model)(ids), pack([Tree((), (tail,)) for tail in TAILS])
    rows = Siblings(prefix, [len(tail) for tail in TAILS], samples, model.device)
    read_prompts(model, [packed], prefix, [(rows, packed.branches[:, 0])])
    return rows, [[*ids, *tail] for tail in TAILS for _ in range(samples)]


def grown(model, rows, texts, step):
    """The texts with one more token each, the states checked against the plain model's."""
    new = [3 + (7 * step + 5 * row) % 60 for row in range(len(texts))]
    assert rows.positions.tolist() == [len(text) for text in texts]
    texts = [[*text, id] for text, id in zip(texts, new, strict=True)]
    found = read_tokens(model, torch.tensor(new), [rows])
    torch.testing.assert_close(found, last_states(model, texts), atol=1e-5, rtol=0)  # merged by sums in float32
    return texts


@pytest.mark.parametrize("ids", [(), PREFIX])
@pytest.mark.parametrize("samples", [1, 2, 5])
def test_rows_grow_token_by_token_as_whole_texts_would(prepared, ids, samples):
    """Over more than a block of columns."""
    rows, texts = started(prepared, ids, samples)
    assert len(rows) == 3 * samples
    for step in range(18):
        texts = grown(prepared, rows, texts, step)


@pytest.mark.parametrize("ids", [(), PREFIX])
@pytest.mark.parametrize(
    "leaving",
    [
        [[0, 1, 3, 4, 5, 6, 7, 8], [0, 2, 3, 4, 6, 7], [1, 2, 5], [2]],  # of 3 + 3 + 3: 2 3 3, then 1 2 3 ...
        [[3, 4, 5], [1, 2], [0]],  # prompts whole
        [[0, 3, 8], [1]],  # one of each
        [[8]],
    ],
)
def test_rows_that_are_let_go_are_not_missed(prepared, ids, leaving):
    rows, texts = started(prepared, ids, 3)
    texts = grown(prepared, rows, texts, 0)
    for step, kept in enumerate(leaving, 1):
        rows.keep(torch.tensor(kept))
        texts = [texts[row] for row in kept]
        assert len(rows) == len(kept)
        for more in range(2):
            texts = grown(prepared, rows, texts, 2 * step + more)


def test_keys_of_a_prompt_are_kept_once(prepared):
    """Three prompts in columns of the longest, and a block of sixteen a reply; those that leave leave their columns."""
    rows, texts = started(prepared, (), 4)
    grown(prepared, rows, texts, 0)
    assert rows.columns == 3 * 3 + 12 * 16
    rows.keep(torch.tensor([0, 1, 5]))  # two of the first prompt, one of the second: two samples of each
    assert rows.columns == 2 * 3 + 4 * 16


@pytest.mark.parametrize("prefixed", [False, True])
def test_sampling_shares_long_prompts_and_rows_end_when_they_end(model, monkeypatch, prefixed):
    """Six replies to each of two prompts of one length or another, three to a short one; eos ends rows unevenly."""
    generator = torch.Generator().manual_seed(4)
    some = [torch.randint(3, 64, (length,), generator=generator).tolist() for length in (30, 26, 3, 40)]
    prompts = [
        (some[3] if prefixed else []) + ids for ids, count in zip(some, (6, 6, 3), strict=False) for _ in range(count)
    ]
    model, eos, made = model.double(), tuple(range(20, 28)), []

    def noted(*given):
        made.append(given[1:3])
        return Siblings(*given)

    monkeypatch.setattr(sampler, "Siblings", noted)
    monkeypatch.setattr(grouping, "SAVED", 100)  # five times 26 columns are saved, twice three are not
    settings = dict(seed=3, temperatures=[1.0] * 15, limits=[20] * 15, eos=eos, stop=None)
    rows = sample(model, prompts, row_keys=range(15), slots=15, **settings)
    assert made == [([34, 38] if prefixed else [26, 30], 6)]  # a beginning of 40 is read apart for 32
    assert sample(model, prompts, row_keys=range(15), slots=7, **settings) == rows
    for key, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
        check_continuation(model, prompt, row, key, limit=20, eos=eos)
    assert len({len(row.ids) for row in rows}) > 4


def test_half_precision_is_near_double(model):
    why_padded(model, 64)
    with torch.no_grad():
        rows, texts = started(model.double(), PREFIX, 2)
        expected = last_states(model, [[*text, 33] for text in texts])
        rows, _ = started(model.bfloat16(), PREFIX, 2)
        found = read_tokens(model, torch.tensor([33] * 6), [rows])
    assert found.dtype == torch.bfloat16
    assert (found.double() - expected).norm() < 0.05 * expected.norm()
