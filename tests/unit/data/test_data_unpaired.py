"""Rated replies as token rows and batches, and which reply stands behind whose prompt for the KL."""

import dataclasses
import itertools

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cai_lightning.data.batching import best_fit
from cai_lightning.data.mismatched import mismatched, rotation
from cai_lightning.data.pairs import as_asked
from cai_lightning.data.unpaired import (
    UnpairedData,
    UnpairedRow,
    UnpairedRows,
    collate_unpaired,
    taken_apart,
    unpaired_rows,
)
from cai_lightning.models.format import Format
from cai_lightning.models.packing import texts
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Label, Prompt, Rating

ASKED = Prompt(id="p", dialogue=human("a b"), source="s", kind="red_team", cluster="c")
PROMPT = [2, 4, 5, 3]  # <human> a b <assistant>


@pytest.fixture
def letters():
    """A tokenizer of letters and markers, each with the white space before it; 0 ends a reply and pads."""
    pieces = ["<eos>", "<unk>", "\n\nHuman:", "\n\nAssistant:", " a", " b", " c"]
    core = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s*\S+"), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", unk_token="<unk>")


def label(**changes):
    unknown = dict.fromkeys(("logit_ab", "logit_ba", "principle", "principle_hash", "model"))
    given = {"id": "0", "prompt": ASKED, "a": "a", "b": "b c", "p_a": 0.75, "source": "ai", "weight": 2.0}
    return Label(**(unknown | given | changes))


def rating(text, **changes):
    return Rating(
        **({"id": text, "prompt": ASKED, "text": text, "p_desirable": 1.0, "source": "s", "weight": 1.0} | changes)
    )


def lists(row):
    return row._replace(prompt=list(map(int, row.prompt)), reply=list(map(int, row.reply)))


def test_a_label_is_two_ratings_that_doubt_each_other():
    found = taken_apart([label(ended=(True, False)), label(id="1", p_a=0.0)])
    assert [(row.id, row.text, row.p_desirable, row.ended) for row in found] == [
        ("0.a", "a", 0.75, True),
        ("0.b", "b c", 0.25, False),
        ("1.a", "a", 0.0, True),
        ("1.b", "b c", 1.0, True),
    ]
    assert {(row.weight, row.source, row.prompt) for row in found} == {(2.0, "ai", ASKED)}
    assert taken_apart([label(b="a")]) == []


def test_ratings_become_rows_and_what_is_left_out_is_counted(letters):
    given = [
        rating("a", p_desirable=0.25),
        rating("b", ended=False, weight=3.0),
        rating("c", weight=0.0),
        rating("a a a a a a a"),
        rating("a a a a"),
    ]
    rows, counts = unpaired_rows(given, Format(letters), asked=as_asked, max_tokens=7)
    assert [lists(row) for row in rows] == [
        UnpairedRow("a", PROMPT, [4, 0], 0.25, 1.0),
        UnpairedRow("b", PROMPT, [5], 1.0, 3.0),
        UnpairedRow("a a a a", [5, 3], [4, 4, 4, 4, 0], 1.0, 1.0),
    ]
    assert counts == {"kept": 3, "prompt_cut": 1, "too_long": 1, "weightless": 1, "no_end": 1}


def test_rows_are_numbered_like_a_list(tmp_path):
    given = [UnpairedRow("x", [2, 3], [4, 0], 0.9, 1.0), UnpairedRow("y", [], [70_000], 0.0, 2.0)]
    rows = UnpairedRows(70_001, folder=tmp_path)
    for row in given:
        rows.append(row)
    assert [lists(row) for row in rows] == given and lists(rows[-1]) == given[1]
    assert [lists(row) for row in rows[::-1]] == given[::-1]


ROWS = [
    UnpairedRow("0", [2, 3], [4, 0], 1.0, 1.0),
    UnpairedRow("1", [2, 3], [5, 6, 0], 0.0, 1.0),
    UnpairedRow("2", [2, 5, 3], [6, 0], 0.7, 2.0),
    UnpairedRow("3", [2, 5, 3], [4], 0.3, 2.0),
]


def read(packed):
    return [packed.ids[places].tolist() for places in texts(packed)]


def test_branches_are_the_replies_alone():
    batch = collate_unpaired(ROWS, [0, 1, 2, 3], 6.0, route="packed")
    assert read(batch.packed) == [[2, 3, 4, 0], [2, 3, 5, 6, 0], [2, 5, 3, 6, 0], [2, 5, 3, 4]]
    ends = [batch.packed.ids[start:stop].tolist() for start, stop in batch.packed.branches.tolist()]
    assert ends == [[4, 0], [5, 6, 0], [6, 0], [4]]
    assert batch.weight.tolist() == [1.0, 1.0, 2.0, 2.0] and batch.divisor.item() == 6.0
    assert batch.p_desirable.tolist() == pytest.approx([1.0, 0.0, 0.7, 0.3])


PARTED = [[2, 3, 6, 0], [2, 3, 4], [2, 5, 3, 4, 0], [2, 5, 3, 5, 6, 0]]


@pytest.mark.parametrize("step", [[[0, 1, 2, 3]], [[0], [1, 2], [3]], [[0], [1], [2], [3]]])
def test_prompts_stand_before_the_replies_of_other_prompts_however_a_step_is_cut(step):
    """A turn by two parts both pairs, and every reply is used once."""
    found = mismatched(ROWS, step, range(len(step)), longest=9, route="packed")
    assert [text for each in found for text in read(each.packed)] == PARTED
    assert all(each.counts for each in found)


def test_a_process_has_the_mismatched_texts_of_its_own_batches_and_fills_up_what_is_missing():
    first, filled = mismatched(ROWS, [[0, 1], [2], [3]], [1, 3], longest=9, route="packed")
    assert (read(first.packed), first.counts) == ([PARTED[2]], True)
    assert (read(filled.packed), filled.counts) == ([PARTED[3]], False)


def test_a_mismatched_text_is_no_longer_than_the_longest_text():
    """The model may not read more."""
    (found,) = mismatched(ROWS, [[0, 1, 2, 3]], [0], longest=5, route="packed")
    assert read(found.packed)[3] == [2, 5, 3, 5, 6]


def test_a_row_alone_has_no_other_reply():
    assert mismatched(ROWS, [[2]], [0, 1], longest=9, route="packed") == ()
    assert rotation([]) == rotation([(1,)]) == 0


def test_of_all_turns_the_first_of_those_that_part_most_is_taken():
    for prompts in itertools.product(((1,), (2,), (3,)), repeat=4):
        by = rotation(prompts)
        met = [sum(prompts[i] == prompts[(i + turn) % 4] for i in range(4)) for turn in (1, 2, 3)]
        assert by - 1 == met.index(min(met))


def test_weights_of_a_window_are_its_divisor_and_the_budget_counts_texts_once():
    given = {"plan": best_fit, "batch_tokens": 10, "accumulate": 2, "route": "padded", "seed": 0}
    data = UnpairedData(ROWS, ROWS[:1], kl=True, **given)
    batches = list(data.train_dataloader())
    # 4 + 5 + 5 + 4 tokens in batches of ten: two of them, one window
    assert sorted(number for batch in batches for number in batch.rows.tolist()) == [0, 1, 2, 3]
    assert [batch.divisor.item() for batch in batches] == [6.0 / 2] * 2
    assert {batch.packed.route for batch in batches} == {"padded"}
    # the first batch of the window brings what its KL is read from, for both
    assert [batch.mismatched is None for batch in batches] == [False, True]
    assert [len(one.packed.branches) for one in batches[0].mismatched] == [len(batch.rows) for batch in batches]
    (validation,) = data.val_dataloader()
    assert [batch.divisor.item() for batch in validation] == [1.0]
    assert UnpairedData(ROWS, [], kl=True, **given).val_dataloader() == []


def test_swapping_a_and_b_makes_the_same_ratings():
    one = label()
    other = dataclasses.replace(one, a=one.b, b=one.a, p_a=1 - one.p_a)
    pairs = [{(row.text, row.p_desirable) for row in taken_apart([each])} for each in (one, other)]
    assert pairs[0] == pairs[1]
