import dataclasses

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cai_lightning.data.pairs import PairData, PairRow, as_asked, collate_pairs, pair_rows, reference_rows
from cai_lightning.models.causal import new_llama
from cai_lightning.models.format import Format
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


def test_the_likelier_reply_is_chosen_and_its_reference_goes_with_it(letters):
    labels = [label(0, "a", "b c", 0.9), label(1, "a", "b c", 0.25), label(2, "a", "b c", 0.5)]
    references = {str(i): Reference(id=str(i), logp_a=-1.0, logp_b=-2.0) for i in range(3)}
    rows, counts = rows_of(labels, references, letters)
    prompt, a, bc = [2, 4, 5, 3], [4, 0], [5, 6, 0]
    assert rows[0] == PairRow("0", prompt + a, prompt + bc, 4, 0.9, 1.0, -1.0, -2.0)
    assert rows[1] == PairRow("1", prompt + bc, prompt + a, 4, 0.75, 1.0, -2.0, -1.0)
    assert (rows[2].chosen_ids, rows[2].p_chosen) == (prompt + a, 0.5)
    assert counts["kept"] == 3


def test_swapping_a_and_b_makes_the_same_row(letters):
    one = label(0, "a", "b c", 0.3)
    other = dataclasses.replace(one, a=one.b, b=one.a, p_a=0.7)
    assert rows_of([one], None, letters)[0] == rows_of([other], None, letters)[0]


def test_what_is_left_out_is_counted(letters):
    labels = [
        label(0, "a", "a", 0.9),
        label(1, "a", "b", 0.9, weight=0.0),
        label(2, "a a a a a a", "b", 0.9),
        label(3, "a a a a", "b", 0.9),
    ]
    rows, counts = rows_of(labels, None, letters, max_tokens=7)
    # 5 reply tokens leave room for two of the four prompt tokens, in both rows
    assert [(row.id, row.chosen_ids, row.rejected_ids) for row in rows] == [("3", [5, 3, 4, 4, 4, 4, 0], [5, 3, 5, 0])]
    assert counts == {"kept": 1, "prompt_cut": 1, "too_long": 1, "identical": 1, "weightless": 1, "no_end": 0}


def test_a_reply_that_has_not_ended_has_no_end_token_whichever_is_chosen(letters):
    labels = [dataclasses.replace(label(i, "a", "b c", p), ended=(True, False)) for i, p in enumerate((0.9, 0.1))]
    rows, counts = rows_of(labels, None, letters)
    prompt, a, bc = [2, 4, 5, 3], [4, 0], [5, 6]
    assert [(row.chosen_ids, row.rejected_ids) for row in rows] == [
        (prompt + a, prompt + bc),
        (prompt + bc, prompt + a),
    ]
    assert counts["no_end"] == 2
    same = dataclasses.replace(label(0, "a", "a", 0.9), ended=(True, False))
    assert rows_of([same], None, letters)[1]["identical"] == 1


def test_a_reward_model_reads_its_own_marker(letters):
    def asked(dialogue):
        return to_text(dialogue) + "\n\nHuman:"

    rows, _ = rows_of([label(0, "a", "b", 0.9)], None, letters, asked=asked)
    assert rows[0].chosen_ids == [2, 4, 5, 2, 4, 0]


def test_a_missing_reference_is_named(letters):
    with pytest.raises(ValueError, match="label '0' has no reference"):
        rows_of([label(0, "a", "b", 0.9)], {}, letters)


def test_references_are_the_slow_sums_under_the_model(letters):
    """Reply tokens and the end token, one position at a time; a and b stay a and b whichever is chosen."""
    model = new_llama(
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

    def slow(prompt, reply):
        with torch.no_grad():
            every = model(torch.tensor([prompt + reply])).logits[0].log_softmax(-1)
        return sum(every[len(prompt) + place - 1, token].item() for place, token in enumerate(reply))

    labels = [label(0, "a", "b c", 0.9), label(1, "a", "b c", 0.2), label(2, "a", "a", 0.9)]
    references, counts = reference_rows(model, labels, Format(letters), max_tokens=99, batch_tokens=64, multiple=8)
    assert [reference.id for reference in references] == ["0", "1"] and counts["identical"] == 1
    prompt = [2, 4, 5, 3]
    for reference in references:
        assert reference.logp_a == pytest.approx(slow(prompt, [4, 0]), abs=1e-5)
        assert reference.logp_b == pytest.approx(slow(prompt, [5, 6, 0]), abs=1e-5)


def test_batches_stack_chosen_over_rejected():
    """Pad and end token are both 0: masks and lengths come from counts."""
    rows = [
        PairRow("x", [2, 3, 4, 0], [2, 3, 5, 6, 0], 2, 0.9, 1.0, -1.0, -2.0),
        PairRow("y", [2, 3, 3, 6, 0], [2, 3, 3, 0], 3, 0.6, 2.0, -3.0, -4.0),
    ]
    batch = collate_pairs(rows, [0, 1], 3.0, pad=0, multiple=4)
    assert batch.input_ids.tolist() == [
        [2, 3, 4, 0, 0, 0, 0, 0],
        [2, 3, 3, 6, 0, 0, 0, 0],
        [2, 3, 5, 6, 0, 0, 0, 0],
        [2, 3, 3, 0, 0, 0, 0, 0],
    ]
    assert batch.mask.int().tolist() == [
        [0, 0, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 0, 0],
    ]
    assert batch.reference_chosen.tolist() == [-1.0, -3.0] and batch.reference_rejected.tolist() == [-2.0, -4.0]
    assert batch.weight.tolist() == [1.0, 2.0]


def test_without_references_there_is_no_column():
    row = PairRow("x", [2, 3, 4, 0], [2, 3, 5, 6, 0], 2, 0.9, 1.0, None, None)
    batch = collate_pairs([row], [0], 1.0, pad=0, multiple=4)
    assert batch.reference_chosen is None and batch.reference_rejected is None


def test_both_replies_count_towards_the_budget():
    row = PairRow("x", [2] * 8, [2] * 6, 2, 0.9, 1.5, None, None)
    data = PairData([row] * 6, [], pad=0, batch_tokens=32, multiple=4, accumulate=1, seed=0)
    batches = list(data.train_dataloader())
    # two rows of eight tokens a pair: two pairs a batch
    assert [batch.input_ids.shape for batch in batches] == [(4, 8)] * 3
    assert [batch.divisor.item() for batch in batches] == [3.0] * 3
    assert data.val_dataloader() == []
