import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cai_lightning.data.batching import best_fit
from cai_lightning.data.sft import SFTData, SFTRow, SFTRows, collate_sft, sft_rows
from cai_lightning.data.unfinished import drop, keep, no_end
from cai_lightning.models.format import Format
from cai_lightning.models.packing import texts
from cai_lightning.text.dialogue import Message, human


@pytest.fixture
def words():
    """A tokenizer of seven words, each with the white space before it; the end token doubles as pad."""
    pieces = ["<eos>", "<unk>", "\n\nHuman:", "\n\nAssistant:", " a", " b", " c"]
    core = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s*\S+"), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", unk_token="<unk>")


PROMPT = human("a b")  # <human> a b <assistant>


def lists(rows):
    return [(row.ids.tolist(), row.weights.tolist()) for row in rows]


def test_only_the_reply_and_its_end_are_learned(words):
    rows, counts = sft_rows([(PROMPT, "c b")], Format(words), max_tokens=99)
    assert lists(rows) == [([2, 4, 5, 3, 6, 5, 0], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0])]
    assert counts == {"kept": 1, "prompt_cut": 0, "too_long": 0, "empty": 0, "no_end": 0, "unfinished": 0}


def test_a_prompt_may_be_a_text_and_turns_go_first_where_it_is_cut(words):
    text = "\n\nHuman: a b\n\nAssistant:"
    written, asked = (sft_rows([(prompt, "c")], Format(words), max_tokens=99) for prompt in (text, PROMPT))
    assert lists(written[0]) == lists(asked[0]) and written[1] == asked[1]
    turns = (*human("a"), Message("assistant", "b"), *human("c"))
    # seven tokens; five are allowed: the last human turn, three, and the reply
    rows, counts = sft_rows([(turns, "c")], Format(words), max_tokens=6)
    assert rows[0].ids.tolist() == [2, 6, 3, 6, 0] and counts["prompt_cut"] == 1


def test_the_length_policy_is_counted(words):
    examples = [(PROMPT, "c"), (PROMPT, "c b a"), (PROMPT, "a a a a a"), (PROMPT, " ")]
    rows, counts = sft_rows(examples, Format(words), max_tokens=6)
    # 4 + 2 fit, 4 + 4 lose two prompt tokens, a reply of 5 + 1 leaves no room for a prompt
    assert [row.ids.tolist() for row in rows] == [[2, 4, 5, 3, 6, 0], [5, 3, 6, 5, 4, 0]]
    assert counts == {"kept": 2, "prompt_cut": 1, "too_long": 1, "empty": 1, "no_end": 0, "unfinished": 0}


def test_cut_replies_are_learned_without_end_or_not_at_all(words):
    finished = [True, False]
    examples = [(PROMPT, "c b"), (PROMPT, "c b")]
    for policy, replies in ((keep, [[6, 5, 0], [6, 5, 0]]), (no_end, [[6, 5, 0], [6, 5]]), (drop, [[6, 5, 0]])):
        rows, counts = sft_rows(examples, Format(words), max_tokens=99, ended=[policy(each) for each in finished])
        assert lists(rows) == [([2, 4, 5, 3, *reply], [0.0] * 4 + [1.0] * len(reply)) for reply in replies]
        assert (counts["no_end"], counts["unfinished"]) == {keep: (0, 0), no_end: (1, 0), drop: (0, 1)}[policy]


def test_rows_lie_in_files_and_are_numbered_like_a_list(tmp_path):
    rows = SFTRows(70_000, folder=tmp_path)
    given = [([3, 69_999, 1], [0.0, 0.5, 1.0]), ([7], [0.0]), ([8, 9], [1.0, 2.0])]
    for row in given:
        rows.append(SFTRow(*row))
    assert lists(rows) == given and lists([rows[-1]]) == given[2:]
    assert lists(rows[::-2]) == given[::-2]
    assert list(tmp_path.iterdir()) == []
    assert rows[0].ids.dtype.itemsize == 4 and SFTRows(70_000)[:] == []


def collated(rows, chosen, divisor):
    return collate_sft(rows, chosen, divisor, route="packed")


def test_batches_are_texts_weighted_by_place_not_by_id():
    """A real end token may have the id 0 of a pad: it keeps its weight."""
    rows = [SFTRow([2, 4, 0], [0.0, 1.0, 1.0]), SFTRow([2, 4, 4, 4, 0], [0.0, 0.5, 0.0, 1.0, 2.0])]
    batch = collated(rows, [1, 0], 6.5)
    assert len(batch.packed.ids) == 8 and batch.weights.dtype == torch.float32
    weights = torch.zeros(8).index_put((batch.targets,), batch.weights)
    for number, places in zip(batch.rows.tolist(), texts(batch.packed), strict=True):
        assert (batch.packed.ids[places].tolist(), weights[places].tolist()) == tuple(rows[number])
    # the third token of the longer text weighs nothing, so it is no target
    assert len(batch.targets) == 5
    assert batch.divisor.item() == 6.5 and batch.rows.tolist() == [1, 0]


def test_a_first_token_is_no_target_whatever_it_weighs():
    rows = [SFTRow([2, 4], [1.0, 1.0]), SFTRow([3, 5, 0], [1.0, 1.0, 1.0])]
    batch = collated(rows, [0, 1], 1.0)
    assert sorted(batch.packed.ids[batch.targets].tolist()) == [0, 4, 5]


def data(train, validation, **changes):
    given = {"plan": best_fit, "batch_tokens": 8, "accumulate": 1, "route": "packed", "seed": 0}
    return SFTData(train, validation, **(given | changes))


def test_divisors_leave_out_the_first_token():
    """Nothing predicts a row's first token, so its weight would only dilute the others."""
    rows = [SFTRow([2, 4, 0], [5.0, 1.0, 1.0])]
    served = data(rows, rows)
    (batch,) = served.train_dataloader()
    assert batch.divisor.item() == 2
    assert len(served.val_dataloader()) == 1 and data(rows, []).val_dataloader() == []


def test_the_plan_divides_rows_and_the_route_goes_with_them():
    rows = [SFTRow([2] * length, [1.0] * length) for length in (5, 2, 3, 6)]
    batches = list(data(rows, [], route="padded").train_dataloader())
    # 8 tokens a batch, of which the 16 fill two
    assert sorted(sorted(batch.rows.tolist()) for batch in batches) == [[0, 2], [1, 3]]
    assert [len(batch.packed.ids) for batch in batches] == [8, 8]
    assert {batch.packed.route for batch in batches} == {"padded"}
