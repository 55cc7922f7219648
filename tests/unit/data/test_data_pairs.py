import dataclasses
import itertools
from functools import partial

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cai_lightning.data.batching import best_fit, length_buckets
from cai_lightning.data.pairs import (
    PairData,
    PairRow,
    PairRows,
    as_asked,
    collate_pairs,
    pair_lengths,
    pair_rows,
    reference_rows,
)
from cai_lightning.models.causal import new_llama
from cai_lightning.models.format import Format
from cai_lightning.models.packing import texts
from cai_lightning.text.dialogue import human, to_text
from cai_lightning.text.records import Label, Prompt, Reference


@pytest.fixture
def letters():
    """A tokenizer of letters and markers, each with the white space before it; 0 ends a reply and pads."""
    pieces = ["<eos>", "<unk>", "\n\nHuman:", "\n\nAssistant:", " a", " b", " c"]
    core = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s*\S+"), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", unk_token="<unk>")


def label(number, a, b, p_a, weight=1.0, prompt="a b"):
    return Label(
        id=str(number),
        prompt=Prompt(id="p", dialogue=human(prompt), source="s", kind="red_team", cluster="c"),
        a=a,
        b=b,
        p_a=p_a,
        logit_ab=None,
        logit_ba=None,
        principle=None,
        principle_hash=None,
        model=None,
        source="test",
        weight=weight,
    )


def rows_of(labels, references, tokenizer, **changes):
    return pair_rows(labels, references, Format(tokenizer), **({"asked": as_asked, "max_tokens": 99} | changes))


def lists(row):
    """The row with its ids as lists."""
    return row._replace(prompt=row.prompt.tolist(), chosen=row.chosen.tolist(), rejected=row.rejected.tolist())


PROMPT = [2, 4, 5, 3]  # <human> a b <assistant>


def test_the_likelier_reply_is_chosen_and_its_reference_goes_with_it(letters):
    labels = [label(0, "a", "b c", 0.9), label(1, "a", "b c", 0.25), label(2, "a", "b c", 0.5)]
    references = {str(i): Reference(id=str(i), logp_a=-1.0, logp_b=-2.0) for i in range(3)}
    rows, counts = rows_of(labels, references, letters)
    a, bc = [4, 0], [5, 6, 0]
    assert lists(rows[0]) == PairRow("0", PROMPT, a, bc, 0.9, 1.0, -1.0, -2.0)
    assert lists(rows[1]) == PairRow("1", PROMPT, bc, a, 0.75, 1.0, -2.0, -1.0)
    assert (lists(rows[2]).chosen, rows[2].p_chosen) == (a, 0.5)
    assert counts["kept"] == 3


def test_swapping_a_and_b_makes_the_same_row(letters):
    one = label(0, "a", "b c", 0.3)
    other = dataclasses.replace(one, a=one.b, b=one.a, p_a=0.7)
    rows = [rows_of([each], None, letters)[0] for each in (one, other)]
    assert lists(rows[0][0]) == lists(rows[1][0])


def test_what_is_left_out_is_counted(letters):
    labels = [
        label(0, "a", "a", 0.9),
        label(1, "a", "b", 0.9, weight=0.0),
        label(2, "a a a a a a", "b", 0.9),
        label(3, "a a a a", "b", 0.9),
    ]
    rows, counts = rows_of(labels, None, letters, max_tokens=7)
    # the longer reply of 5 tokens leaves room for two of the four prompt tokens
    assert [lists(row) for row in rows] == [PairRow("3", [5, 3], [4, 4, 4, 4, 0], [5, 0], 0.9, 1.0, None, None)]
    assert counts == {"kept": 1, "prompt_cut": 1, "too_long": 1, "identical": 1, "weightless": 1, "no_end": 0}


def test_a_reply_that_has_not_ended_has_no_end_token_whichever_is_chosen(letters):
    labels = [dataclasses.replace(label(i, "a", "b c", p), ended=(True, False)) for i, p in enumerate((0.9, 0.1))]
    rows, counts = rows_of(labels, None, letters)
    a, bc = [4, 0], [5, 6]
    assert [lists(row)[1:4] for row in rows] == [(PROMPT, a, bc), (PROMPT, bc, a)]
    assert counts["no_end"] == 2
    same = dataclasses.replace(label(0, "a", "a", 0.9), ended=(True, False))
    assert rows_of([same], None, letters)[1]["identical"] == 1


def test_a_reward_model_reads_its_own_marker(letters):
    def asked(dialogue):
        return to_text(dialogue) + "\n\nHuman:"

    rows, _ = rows_of([label(0, "a", "b", 0.9)], None, letters, asked=asked)
    assert lists(rows[0])[1:4] == ([2, 4, 5, 2], [4, 0], [5, 0])


def test_margins_and_sources_go_with_their_pairs(letters):
    """The margin belongs to the likelier reply, so it is the same whichever is a; sources are numbered as they come."""
    labels = [
        dataclasses.replace(label(i, "a", "b c", p), source=source, margin=margin)
        for i, (p, source, margin) in enumerate([(0.9, "human", 1.5), (0.2, "ai", 0.25), (0.8, "human", 0.0)])
    ]
    rows, _ = rows_of(labels, None, letters)
    assert rows.sources == ("human", "ai")
    assert [(row.margin, row.source) for row in rows] == [(1.5, 0), (0.25, 1), (0.0, 0)]
    batch = collate_pairs(rows, [1, 0], 1.0, share=1, route="packed")
    assert batch.margin.tolist() == [0.25, 1.5] and batch.source.tolist() == [1, 0]


def test_a_missing_reference_is_named(letters):
    with pytest.raises(ValueError, match="label '0' has no reference"):
        rows_of([label(0, "a", "b", 0.9)], {}, letters)


def test_rows_are_numbered_like_a_list_and_their_tokens_lie_in_a_file(tmp_path):
    given = [
        PairRow("x", [2, 3], [4, 0], [5, 6, 0], 0.9, 1.0, -1.0, -2.0),
        PairRow("y", [], [6, 0], [0], 0.6, 2.0, None, None),
        PairRow("z", [2], [70_000], [5], 0.5, 1.0, None, None, 1.5, 2),
    ]
    rows = PairRows(70_001, folder=tmp_path)
    for row in given:
        rows.append(row)
    assert [lists(row) for row in rows] == given and lists(rows[-2]) == given[1]
    assert [lists(row) for row in rows[::-1]] == given[::-1]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def tiny():
    """A model of the seven pieces above."""
    return new_llama(
        vocab_size=7,
        hidden_size=16,
        layers=1,
        heads=2,
        intermediate_size=16,
        max_positions=32,
        tie=True,
        pad_id=0,
        eos_id=0,
        seed=0,
    )


def referred(model, labels, tokenizer, **changes):
    given = {"max_tokens": 99, "plan": best_fit, "batch_tokens": 24, "share": 4, "route": "packed"}
    return reference_rows(model, labels, Format(tokenizer), **(given | changes))


LABELS = [label(0, "a", "b c", 0.9), label(1, "a", "b c", 0.2), label(2, "a", "a", 0.9), label(3, "c a b", "b", 0.4)]
WAYS = [
    {"share": share, "route": route, "plan": plan}
    for share, route, plan in itertools.product(
        (4, 0), ("packed", "padded"), (best_fit, partial(length_buckets, multiple=8))
    )
]


@pytest.mark.parametrize("way", WAYS)
def test_references_are_the_slow_sums_under_the_model(letters, tiny, way):
    """Reply tokens and the end token, one position at a time; a and b stay a and b whichever is chosen."""
    codes = {"a": [4, 0], "b": [5, 0], "b c": [5, 6, 0], "c a b": [6, 4, 5, 0]}

    def slow(reply):
        with torch.no_grad():
            every = tiny(torch.tensor([PROMPT + codes[reply]])).logits[0].log_softmax(-1)
        return sum(every[len(PROMPT) + place - 1, token].item() for place, token in enumerate(codes[reply]))

    references, counts = referred(tiny, LABELS, letters, **way)
    assert [reference.id for reference in references] == ["0", "1", "3"] and counts["identical"] == 1
    for reference in references:
        asked = LABELS[int(reference.id)]
        assert reference.logp_a == pytest.approx(slow(asked.a), abs=1e-5)
        assert reference.logp_b == pytest.approx(slow(asked.b), abs=1e-5)


def test_every_pair_is_read_once_for_its_references(letters, tiny):
    """Four prompt tokens a pair, then the replies: 4 + 2 + 3, 4 + 2 + 3 and 4 + 4 + 2; the equal pair is not read."""
    referred(tiny, LABELS, letters)  # a model's first packed row is preceded by a trial
    seen = []
    tiny.model.layers[0].mlp.up_proj.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    referred(tiny, LABELS, letters)
    # 24 tokens a batch: the 28 take two
    assert sum(seen) == 9 + 9 + 10 and len(seen) == 2
    seen.clear()
    referred(tiny, LABELS, letters, share=5)
    assert sum(seen) == 28 + 3 * 4


def test_no_label_makes_no_reference(letters, tiny):
    assert referred(tiny, [], letters)[0] == []
    assert referred(tiny, LABELS[2:3], letters)[0] == []


ROWS = [
    PairRow("x", [2, 3], [4, 0], [5, 6, 0], 0.9, 1.0, -1.0, -2.0),
    PairRow("y", [2, 3, 3], [6, 0], [0], 0.6, 2.0, -3.0, -4.0),
]


def read(batch):
    """The ids of each branch's text, and of the branch alone."""
    packed = batch.packed
    whole = [packed.ids[places].tolist() for places in texts(packed)]
    return whole, [packed.ids[start:stop].tolist() for start, stop in packed.branches.tolist()]


def test_a_rejected_reply_follows_its_chosen_one_and_what_belongs_to_a_pair_goes_with_it():
    """Pad and end token may both be 0: what is read goes by places."""
    batch = collate_pairs(ROWS, [1, 0], 3.0, share=1, route="packed")
    whole = [[2, 3, 3, 6, 0], [2, 3, 3, 0], [2, 3, 4, 0], [2, 3, 5, 6, 0]]
    assert read(batch) == (whole, [[6, 0], [0], [4, 0], [5, 6, 0]])
    assert batch.reference_chosen.tolist() == [-3.0, -1.0] and batch.reference_rejected.tolist() == [-4.0, -2.0]
    assert batch.weight.tolist() == [2.0, 1.0] and batch.rows.tolist() == [1, 0] and batch.divisor.item() == 3.0
    torch.testing.assert_close(batch.p_chosen, torch.tensor([0.6, 0.9]))


def test_prompts_of_at_least_so_many_tokens_stand_once():
    # prompts of two and three tokens; replies of 2 + 3 and 2 + 1
    batches = [collate_pairs(ROWS, [0, 1], 3.0, share=share, route="packed") for share in (0, 1, 2, 3, 4)]
    assert [len(batch.packed.ids) for batch in batches] == [18, 13, 13, 15, 18]
    assert [sum(pair_lengths(ROWS, share=share)) for share in (0, 1, 2, 3, 4)] == [18, 13, 13, 15, 18]
    for batch in batches:
        assert read(batch) == read(batches[0])
        for places in texts(batch.packed):
            assert batch.packed.positions[places].tolist() == list(range(len(places)))


def test_without_references_there_is_no_column():
    row = ROWS[0]._replace(reference_chosen=None, reference_rejected=None)
    batch = collate_pairs([row], [0], 1.0, share=1, route="packed")
    assert batch.reference_chosen is None and batch.reference_rejected is None


def test_both_replies_count_towards_the_budget_and_a_shared_prompt_once():
    # two tokens of prompt, six and four of replies
    row = PairRow("x", [2] * 2, [2] * 6, [2] * 4, 0.9, 1.5, None, None)
    assert pair_lengths([row], share=2) == [12] and pair_lengths([row], share=3) == [14]
    for share, pairs in ((2, 2), (3, 1)):
        given = {"plan": best_fit, "batch_tokens": 26, "accumulate": 1, "share": share, "route": "padded", "seed": 0}
        data = PairData([row] * 6, [], **given)
        batches = list(data.train_dataloader())
        assert [len(batch.packed.branches) for batch in batches] == [2 * pairs] * (6 // pairs)
        assert [batch.divisor.item() for batch in batches] == [1.5 * pairs] * (6 // pairs)
        assert {batch.packed.route for batch in batches} == {"padded"}
        assert data.val_dataloader() == []
