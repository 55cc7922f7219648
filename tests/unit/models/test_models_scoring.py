from __future__ import annotations

import pytest
import torch
from model_oracles import scored

from cai_lightning.models.scoring import score_spans
from cai_lightning.models.slots import Prefixes


def some(length, seed):
    return torch.randint(3, 64, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


SHOTS = some(40, 1)
TALKS = [some(10, 2), some(14, 3)]
PRINCIPLES = [[57, 51, 52], [53, 54, 55, 56]]  # not in the order of their ids
LETTERS = [[10], [11]]


def questions(tails):
    """Each conversation under each principle, behind the same solved examples."""
    return [([*SHOTS, *talk, *principle], tails) for principle in PRINCIPLES for talk in TALKS]


SPANS = {
    "letters": questions(LETTERS),
    "texts": questions([[10, 12], [11], [13, 14, 15]]),
    "short prompts": [([5], LETTERS), ([6, 7, 8], LETTERS), ([6, 7, 9], LETTERS)],
    "equal prompts": [(SHOTS, LETTERS), (SHOTS, [[12], [13], [14]]), (SHOTS, [[12, 13], [12]])],
    "a prompt that goes on from another": [(SHOTS, LETTERS), ([*SHOTS, 5], LETTERS), ([*SHOTS, 5, 6], LETTERS)],
    "all together": [*questions(LETTERS), ([5, 6], [[7, 8], [9]]), *questions([[10, 11]]), ([3], [])],
}


def check(model, spans, found):
    assert len(found) == len(spans)
    for (prompt, tails), row in zip(spans, found, strict=True):
        assert row == pytest.approx([scored(model, prompt, tail) for tail in tails], abs=1e-5)


@pytest.mark.parametrize("name", SPANS)
def test_scores_equal_one_question_at_a_time(model, name):
    for rows in (1, 3, 64):
        check(model, SPANS[name], score_spans(model, SPANS[name], rows=rows))
    check(model, SPANS[name], score_spans(model, SPANS[name], rows=3, route="padded"))


def test_the_order_of_questions_changes_nothing(llama):
    spans = SPANS["all together"]
    found = score_spans(llama, spans, rows=3)
    turned = score_spans(llama, spans[::-1], rows=3)[::-1]
    for one, other in zip(found, turned, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert score_spans(llama, [], rows=3) == []


@pytest.fixture
def read(llama):
    """Counts the tokens that go through the model."""
    score_spans(llama, [([5, 6], LETTERS)], rows=1)  # a first use tries how the model reads
    counted = []
    llama.model.layers[1].mlp.down_proj.register_forward_hook(
        lambda _, given, __: counted.append(given[0].shape[:-1].numel())
    )
    return counted


def test_questions_read_their_common_tokens_once(llama, read):
    """40 common tokens are cut to 32; behind the other 8 each conversation forks into its principles."""
    kept = Prefixes(llama)
    forks = (8 + 10) + (8 + 14) + 2 * (3 + 4)
    found = score_spans(llama, questions(LETTERS), rows=64, prefixes=kept)
    assert read == [32, forks]
    read.clear()
    assert score_spans(llama, questions(LETTERS), rows=64, prefixes=kept) == found
    assert read == [forks] and kept.read == 1
    read.clear()
    score_spans(llama, questions(LETTERS), rows=64, route="padded")
    assert read == [4 * (40 + 14 + 4)]


def test_both_orders_of_a_comparison_fork_behind_the_conversation(llama, read):
    """The two replies change places, so the conversation is what both questions share."""
    a, b = some(5, 4), some(6, 5)
    talk = some(20, 6)
    spans = [([*talk, 60, *first, 61, *second, 62], LETTERS) for first, second in ((a, b), (b, a))]
    assert a[0] != b[0]
    found = score_spans(llama, spans, rows=8)
    assert read == [21 + 2 * (5 + 1 + 6 + 1)]
    check(llama, spans, found)


def test_continuations_of_several_tokens_fork_behind_their_prompt(llama, read):
    tails = [[10, 12], [11], [13, 14, 15]]
    score_spans(llama, questions(tails), rows=64)
    # behind 32 common tokens each prompt's rest is read once, then its tails
    assert read == [32, 4 * 8 + 2 * (10 + 14) + 2 * (3 + 4) + 4 * (2 + 1 + 3)]


def test_about_so_many_questions_are_read_together(llama, read):
    done = []
    score_spans(llama, questions(LETTERS), rows=3, on_end=done.append)
    assert done == [3, 1] and len(read) == 3 and read[0] == 32


def test_the_mode_of_every_module_is_restored(llama):
    llama.train()
    llama.model.layers[0].eval()
    score_spans(llama, questions(LETTERS), rows=3)
    assert llama.training and not llama.model.layers[0].training and llama.model.layers[1].training
