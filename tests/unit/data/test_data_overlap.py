from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.data.overlap import (
    Counts,
    Leak,
    conversations,
    counts,
    duplicates,
    grams,
    leaks,
    split_words,
    without_overlap,
)
from cai_lightning.data.questions import multiple_choice
from cai_lightning.data.reading import Read
from cai_lightning.text.dialogue import Message, human
from cai_lightning.text.records import Label, Prompt

SHARED = os.environ.get("CAI_SHARED_DATA")
TALK = "\n\nHuman: How do I bake bread?\n\nAssistant: With flour, water, salt and a little patience."


def prompt(text: str) -> Prompt:
    return Prompt(id=text, dialogue=human(text), source="s", kind="k", cluster=text)


def label(asked: str, a: str, b: str) -> Label:
    return Label(
        id=asked,
        prompt=prompt(asked),
        a=a,
        b=b,
        p_a=1.0,
        logit_ab=None,
        logit_ba=None,
        principle=None,
        principle_hash=None,
        model=None,
        source="s",
        weight=1.0,
    )


def test_words_are_without_case_punctuation_and_forms() -> None:
    assert split_words("It’s  FINE — ﬁne!") == ("it", "s", "fine", "fine")
    assert split_words("你好 world") == ("你", "好", "world")
    assert split_words(" :-) ") == (":-)",)
    assert split_words(" ") == ()


def test_grams_of_a_short_text_are_the_text() -> None:
    assert grams(("a", "b", "c"), 2) == {("a", "b"), ("b", "c")}
    assert grams(("a",), 2) == {("a",)}
    assert grams((), 2) == frozenset()


def test_a_conversation_is_the_same_whatever_its_format() -> None:
    evaluation = ["Human: how do i bake bread\n\nAssistant: with flour water salt and a little patience"]
    dialogue = (
        Message("human", "how do I bake bread"),
        Message("assistant", "With flour, water, salt and a little patience"),
    )
    rows = [TALK, dialogue, label("How do I bake bread?", "Buy it.", "With flour, water, salt and a little patience.")]
    found = leaks({"t": rows}, {"e": evaluation}, words=5, containment=0.8)
    assert found == [Leak("e", 0, "t", number, True, True, 1.0) for number in range(3)]


def test_a_first_turn_alone_is_told_apart() -> None:
    (leak,) = leaks({"t": [prompt("how do i bake bread?")]}, {"e": [TALK]}, words=5, containment=0.8)
    # 13 words, 9 runs of 5, one of them in the training row
    assert (leak.conversation, leak.first_turn, leak.containment) == (False, True, pytest.approx(1 / 9))


def test_containment_does_not_fall_when_the_training_text_goes_on() -> None:
    longer = "so i asked " + "how do i bake bread with flour water salt and a little patience" + " and more" * 50
    (leak,) = leaks({"t": [longer]}, {"e": [TALK]}, words=5, containment=0.8)
    assert (leak.conversation, leak.first_turn, leak.containment) == (False, False, 1.0)
    assert leaks({"t": [TALK]}, {"e": [longer]}, words=5, containment=0.8) == []


@pytest.mark.parametrize(("least", "found"), [(0.5, 1), (0.51, 0)])
def test_the_threshold_is_reached_when_equal(least: float, found: int) -> None:
    # runs of 2: ab bc cd de; ab and bc are shared
    assert len(leaks({"t": ["x a b c y"]}, {"e": ["a b c d e"]}, words=2, containment=least)) == found


def test_texts_without_words_never_match() -> None:
    assert leaks({"t": [" ", "\n\nHuman:"]}, {"e": [" ", "\n\nHuman:"]}, words=5, containment=0.0) == []
    assert len(leaks({"t": ["hi"]}, {"e": ["hi"]}, words=5, containment=0.8)) == 1
    assert leaks({"t": [":-)"]}, {"e": [":-("]}, words=5, containment=0.8) == []


def test_counts_are_of_distinct_rows() -> None:
    train = {"t": [TALK, TALK, prompt("how do i bake bread")], "u": ["nothing of this kind"]}
    found = leaks(train, {"e": [TALK, "something else"]}, words=5, containment=0.8)
    assert counts(found, containment=0.8) == {("e", "t"): Counts(1, 1, 1, 3)}


def test_duplicates_are_groups_of_rows() -> None:
    assert duplicates(["a b", "c", "A, b!", "c", "d"]) == [[0, 2], [1, 3]]


def test_what_leaks_is_left_out_of_a_reader_and_counted() -> None:
    rows = [prompt("how do i bake bread"), prompt("who are you"), prompt(TALK.replace("\n\n", " "))]
    given: dict[str, Any] = {"reader": Read(rows, {"duplicate": 2}), "words": 5, "containment": 0.8}
    left = without_overlap(against=[[TALK]], first_turns=True, **given)
    assert (left.rows, left.dropped) == ([rows[1], rows[2]], {"duplicate": 2, "leaked": 1})
    left = without_overlap(against=[Read([TALK], {})], first_turns=False, **given)
    assert (left.rows, left.dropped["leaked"]) == (rows, 0)
    left = without_overlap(against=[], first_turns=True, **given)
    assert left.rows == rows


def test_what_holds_no_conversation_is_an_error() -> None:
    with pytest.raises(ValueError, match="a float holds no conversation"):
        conversations(1.5)


def said(text: str) -> list[list[str]]:
    """The words of every turn, by splitting at the markers."""
    turns = re.split(r"\n\n(?:Human|Assistant):", "\n\n" + text.strip())[1:]
    return [re.findall(r"\w+", turn.lower()) for turn in turns]


@pytest.mark.skipif(not SHARED, reason="CAI_SHARED_DATA names no folder")
@pytest.mark.parametrize("name", ["HarmfulVsEthical", "HarmfulnessClassification"])
def test_the_real_files_share_what_a_slow_loop_finds(name: str) -> None:
    root = Path(str(SHARED))
    with gzip.open(root / "hh-rlhf" / "harmless-base.train.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    train = [row[side] for row in rows for side in ("chosen", "rejected")]
    lines = (root / "anthropic_cai" / "evals" / f"{name}.shared.jsonl").read_text(encoding="utf-8").split("\n")
    prompts = [json.loads(line)["prompt"] for line in lines if line]
    evaluation = [said(text[text.index("\n\nHuman:") : text.rindex("\n\n")]) for text in prompts]
    trained = [said(text) for text in train]
    whole = sum(any(one == other for other in trained) for one in evaluation)
    first = sum(any(one[0] == other[0] for other in trained) for one in evaluation)
    assert first > whole > 0  # the files do overlap

    near = {}
    for number, one in enumerate(evaluation[:60]):
        flat = [word for turn in one for word in turn]
        runs = {tuple(flat[i : i + 5]) for i in range(max(len(flat) - 4, 1))}
        for place, other in enumerate(trained[:600]):
            text = [word for turn in other for word in turn]
            share = len(runs & {tuple(text[i : i + 5]) for i in range(max(len(text) - 4, 1))}) / len(runs)
            if share >= 0.1:
                near[number, place] = share

    questions = multiple_choice(path=root / "anthropic_cai" / "evals" / f"{name}.jsonl")
    found = leaks({"hh": train}, {name: questions}, words=5, containment=0.1)
    result = counts(found, containment=0.8)[name, "hh"]
    assert (result.conversations, result.first_turns) == (whole, first)
    fast = {(leak.evaluation_row, leak.train_row): leak.containment for leak in found}
    assert near and {pair: fast[pair] for pair in near} == pytest.approx(near)
    some = {pair for pair, share in fast.items() if pair[0] < 60 and pair[1] < 600 and share >= 0.1}
    assert some == set(near)
