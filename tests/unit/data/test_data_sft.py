import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cai_lightning.data.sft import SFTData, SFTRow, collate_sft, sft_rows
from cai_lightning.data.unfinished import drop, keep, no_end
from cai_lightning.models.format import Format
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


def test_only_the_reply_and_its_end_are_learned(words):
    rows, counts = sft_rows([(PROMPT, "c b")], Format(words), max_tokens=99)
    assert rows == [SFTRow([2, 4, 5, 3, 6, 5, 0], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0])]
    assert counts == {"kept": 1, "prompt_cut": 0, "too_long": 0, "empty": 0, "no_end": 0, "unfinished": 0}


def test_a_prompt_may_be_a_text_and_turns_go_first_where_it_is_cut(words):
    text = "\n\nHuman: a b\n\nAssistant:"
    assert sft_rows([(text, "c")], Format(words), max_tokens=99) == sft_rows(
        [(PROMPT, "c")], Format(words), max_tokens=99
    )
    turns = (*human("a"), Message("assistant", "b"), *human("c"))
    # seven tokens; five are allowed: the last human turn, three, and the reply
    rows, counts = sft_rows([(turns, "c")], Format(words), max_tokens=6)
    assert rows[0].ids == [2, 6, 3, 6, 0] and counts["prompt_cut"] == 1


def test_the_length_policy_is_counted(words):
    examples = [(PROMPT, "c"), (PROMPT, "c b a"), (PROMPT, "a a a a a"), (PROMPT, " ")]
    rows, counts = sft_rows(examples, Format(words), max_tokens=6)
    # 4 + 2 fit, 4 + 4 lose two prompt tokens, a reply of 5 + 1 leaves no room for a prompt
    assert [row.ids for row in rows] == [[2, 4, 5, 3, 6, 0], [5, 3, 6, 5, 4, 0]]
    assert counts == {"kept": 2, "prompt_cut": 1, "too_long": 1, "empty": 1, "no_end": 0, "unfinished": 0}


def test_cut_replies_are_learned_without_end_or_not_at_all(words):
    finished = [True, False]
    examples = [(PROMPT, "c b"), (PROMPT, "c b")]
    for policy, replies in ((keep, [[6, 5, 0], [6, 5, 0]]), (no_end, [[6, 5, 0], [6, 5]]), (drop, [[6, 5, 0]])):
        rows, counts = sft_rows(examples, Format(words), max_tokens=99, ended=[policy(each) for each in finished])
        assert rows == [SFTRow([2, 4, 5, 3, *reply], [0.0] * 4 + [1.0] * len(reply)) for reply in replies]
        assert (counts["no_end"], counts["unfinished"]) == {keep: (0, 0), no_end: (1, 0), drop: (0, 1)}[policy]


def test_batches_are_padded_and_weighted_by_length_not_by_id():
    """Pad and end token are both 0 here: the real end keeps its weight."""
    rows = [SFTRow([2, 4, 0], [0.0, 1.0, 1.0]), SFTRow([2, 4, 4, 4, 0], [0.0, 0.5, 1.0, 1.0, 2.0])]
    batch = collate_sft(rows, [1, 0], 6.5, pad=0, multiple=4)
    assert batch.input_ids.tolist() == [[2, 4, 4, 4, 0, 0, 0, 0], [2, 4, 0, 0, 0, 0, 0, 0]]
    assert batch.weights.tolist() == [[0, 0.5, 1, 1, 2, 0, 0, 0], [0, 1, 1, 0, 0, 0, 0, 0]]
    assert batch.divisor.item() == 6.5 and batch.rows.tolist() == [1, 0]
    assert batch.weights.dtype == torch.float32


def test_divisors_leave_out_the_first_token():
    """Nothing predicts a row's first token, so its weight would only dilute the others."""
    rows = [SFTRow([2, 4, 0], [5.0, 1.0, 1.0])]
    data = SFTData(rows, rows, pad=0, batch_tokens=8, multiple=4, accumulate=1, seed=0)
    (batch,) = data.train_dataloader()
    assert batch.divisor.item() == 2
    assert len(data.val_dataloader()) == 1
