"""Readers against the real files of the paper and of hh-rlhf, read from the folder that CAI_SHARED_DATA names."""

from __future__ import annotations

import itertools
import json
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.constitution.principles import Principle
from cai_lightning.data.hh import hh_prompts
from cai_lightning.data.preferences import by_margin
from cai_lightning.data.released import sampled, sampled_pair, trace
from cai_lightning.data.rows import labels, responses, revisions
from cai_lightning.data.tables import file_table
from cai_lightning.data.wrappers import every_human_turn


@pytest.fixture(scope="module")
def root() -> Path:
    folder = os.environ.get("CAI_SHARED_DATA")
    if not folder:
        pytest.skip("CAI_SHARED_DATA is not set: it names the folder with anthropic_cai/ and hh-rlhf/")
    return Path(folder)


def test_every_human_turn_of_the_released_dialogues_is_a_prompt(root: Path) -> None:
    path = root / "hh-rlhf" / "harmless-base.test.jsonl.gz"
    whole = hh_prompts(path=path, kind="red_team", skip=0, limit=None)
    found = every_human_turn(prompts=whole)
    turns = sum(turn.role == "human" for prompt in whole.rows for turn in prompt.dialogue)
    silent = sum(turn.role == "human" and not turn.content.strip() for p in whole.rows for turn in p.dialogue)
    assert len(found.rows) + found.dropped.get("duplicate", 0) == turns - silent + whole.dropped.get("duplicate", 0)
    assert {prompt.cluster for prompt in found.rows} == {prompt.cluster for prompt in whole.rows}


def test_released_traces_are_chains_under_the_paper_s_principles(root: Path) -> None:
    entries = json.loads((root / "anthropic_cai" / "prompts" / "CritiqueRevisionInstructions.json").read_text())
    known = {
        id: Principle(
            id,
            entry["prompt"][0][len("\n\nCritiqueRequest: ") : -len("\n\nCritique:")],
            entry["edit_request"][len("\n\nRevisionRequest: ") : -len("\n\nRevision:")],
            None,
        ).hash
        for id, entry in entries.items()
    }
    table = file_table(path=root / "anthropic_cai" / "samples", pattern="*_SLMADISON.jsonl")
    found = revisions(
        table=table, chain=trace, source="anthropic-cai", kind="benign", skip=0, limit=None, skip_bad=False
    )
    assert len(found.rows) == 4 * 66
    assert all(known[row.principle] == row.principle_hash for row in found.rows)
    for before, after in itertools.pairwise(found.rows):
        assert after.round == 1 or (after.prompt, after.previous) == (before.prompt, before.text)
    assert not any(text.endswith("Human:") or text != text.strip() for row in found.rows for text in (row.text,))


@pytest.mark.parametrize("method", ["HRLHF", "HHRLHF", "RLMADISON", "RLMADISON_COT"])
def test_released_samples_are_replies_and_pairs_without_markers(root: Path, method: str) -> None:
    pattern = f"*_{method}.jsonl"
    files = root / "anthropic_cai" / "samples"
    given: dict[str, Any] = {"source": "anthropic-cai", "kind": "benign", "skip": 0, "limit": None, "skip_bad": False}
    texts = []
    for rank in (0, 8, 16):
        table = file_table(path=files, pattern=pattern)
        found = responses(table=table, chat=partial(sampled, rank=rank), every_turn=False, **given)
        assert len(found.rows) == 66 and not found.dropped
        texts += [row.text for row in found.rows]
    assert not any(re.search(r"Human:\s*$", text) or not text.strip() for text in texts)
    pairs = labels(
        table=file_table(path=files, pattern=pattern),
        pair=partial(sampled_pair, better=0, worse=16),
        p_chosen=partial(by_margin, scale=1.0),
        weight=1.0,
        min_reply_chars=1,
        **given,
    )
    assert len(pairs.rows) + sum(pairs.dropped.values()) == 66
    assert all(0.5 <= row.p_a <= 1 for row in pairs.rows)
