from pathlib import Path
from typing import Any

import pytest

from cai_lightning.models.tokenizers import bpe
from cai_lightning.stages import pretrain_text
from cai_lightning.stages.pretrain_text import _windows

SIZES: dict[str, Any] = dict(vocabulary=300, window=4, hidden_size=8, layers=1, heads=2, intermediate_size=8)
REST: dict[str, Any] = dict.fromkeys(("max_positions", "data", "fit", "optimizer", "schedule", "dtype", "seed"))


def test_every_token_of_a_text_and_its_end_is_learned_once() -> None:
    tokenizer = bpe(["abcdef"], 258)
    end = tokenizer.eos_token_id
    rows = _windows(["abcdef", "abcd", "a"], tokenizer, 4)
    ids = [tokenizer(text).input_ids for text in ("abcd", "ef", "a")]
    # the end token of "abcd" stands alone in its window, where nothing comes before it
    assert [row.ids for row in rows] == [ids[0], [*ids[1], end], ids[0], [*ids[2], end]]
    assert [row.weights for row in rows] == [[1.0] * 4, [1.0] * 3, [1.0] * 4, [1.0] * 2]


def test_no_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the readers found no text"):
        pretrain_text.run(tmp_path, texts=[[]], **SIZES, **REST)
