"""Pretraining rows are what the tokenizer makes of the documents, with the weight of every piece."""

from collections import namedtuple
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cai_lightning.data.batching import in_order
from cai_lightning.data.sft import SFTData
from cai_lightning.learning.fit import fit
from cai_lightning.learning.optim import adamw, constant
from cai_lightning.learning.processes import automatic
from cai_lightning.microworld.vocabulary import tokenizer
from cai_lightning.models.causal import load_causal, new_llama, save_causal
from cai_lightning.models.tokenizers import bpe
from cai_lightning.stages import pretrain_more
from cai_lightning.stages.pretrain import text_rows

Span = namedtuple("Span", "text weight")
Document = namedtuple("Document", "spans end_weight")
SAID = Document([Span("\n\nHuman: how do i bake the bread\n\nAssistant:", 0.0), Span(" sure .", 2.0)], 0.5)


def test_rows_are_the_tokenizers_own_ids_up_to_the_wanted_number_of_tokens() -> None:
    words = tokenizer()
    rows = text_rows(iter([SAID] * 10), words, 25)
    whole = words("\n\nHuman: how do i bake the bread\n\nAssistant: sure .").input_ids
    # ten pieces and the end token: three documents are needed for 25 tokens
    assert [row.ids for row in rows] == [[*whole, words.eos_token_id]] * 3
    assert rows[0].weights == [0.0] * 8 + [2.0, 2.0, 0.5]


def test_a_word_outside_the_vocabulary_is_named() -> None:
    with pytest.raises(ValueError, match="' xyzzy'"):
        text_rows(iter([Document([Span(" xyzzy", 1.0)], 1.0)]), tokenizer(), 5)


@pytest.fixture
def first(tmp_path: Path) -> Path:
    words = tokenizer()
    sizes: dict[str, Any] = dict(hidden_size=32, layers=1, heads=2, intermediate_size=16, max_positions=32)
    save_causal(
        new_llama(vocab_size=len(words), **sizes, tie=True, pad_id=0, eos_id=1, seed=0),
        words,
        tmp_path / "first",
        dtype="float32",
    )
    return tmp_path / "first"


def more(out: Path, start: Path, *, lr: float) -> Any:
    settings: dict[str, Any] = {"clip": 1.0, "precision": "32-true", "products": "default", "accumulate": 1}
    settings |= {"checkpoint_activations": False, "compile": False, "log_every": 1, "devices": 1, "strategy": automatic}
    out.mkdir(parents=True)
    pretrain_more.run(
        out,
        start=start,
        documents=iter([SAID] * 10),
        tokens=50,
        data=partial(
            SFTData, plan=partial(in_order, multiple=2, rows=4), batch_tokens=64, accumulate=1, route="packed"
        ),
        fit=partial(fit, epochs=1, **settings),
        optimizer=partial(adamw, lr=lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0),
        schedule=partial(constant, warmup_steps=0),
        dtype="float32",
        seed=0,
    )
    return load_causal(out, dtype="float32")[0].state_dict()


def test_a_second_text_goes_on_where_the_first_ended(tmp_path: Path, first: Path) -> None:
    """Without a step the weights are those of the start, with one they move."""
    before = load_causal(first, dtype="float32")[0].state_dict()
    still, moved = more(tmp_path / "still" / "0", first, lr=0.0), more(tmp_path / "moved" / "0", first, lr=1e-2)
    assert all(torch.equal(before[name], still[name]) for name in before)
    assert any(not torch.equal(before[name], moved[name]) for name in before)


def test_a_start_of_other_words_is_refused(tmp_path: Path, first: Path) -> None:
    model, _ = load_causal(first, dtype="float32")
    save_causal(model, bpe(["abcdef"], 258), tmp_path / "other", dtype="float32")
    with pytest.raises(ValueError, match="another vocabulary than the micro-world"):
        more(tmp_path / "out" / "0", tmp_path / "other", lr=0.0)
