from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.data.questions import multiple_choice

CONVERSATION = "\n\nHuman: May I (A) ask?\n\nAssistant: Do.\n\nHuman: Which?"


def fenced(conversation: str, a: str, b: str) -> str:
    """The shape of the 438-question file."""
    question = f"\n\nConsider this talk:{conversation}\n\n\nChoose well. Options:"
    return question + f"\n (A) [[[{a}]]]\n (B) [[[{b}]]]\n\nThe answer is:"


def plain(conversation: str, *options: str) -> str:
    """The shape of the two harm files: no brackets, one newline before the answer."""
    lines = "".join(f"\n ({letter}) {option}" for letter, option in zip("ABCDEFGHI", options, strict=False))
    return f"Here is a talk:{conversation}\n\nChoose the option that fits:{lines}\nThe answer is:"


def row(prompt: str, gold: int = 0, count: int = 2) -> dict[str, Any]:
    letters = [f" ({letter})" for letter in "ABCDEFGHI"[:count]]
    return {"prompt": prompt, "corrects": [letters.pop(gold)], "incorrects": letters}


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "some.shared.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder / "some.jsonl"


def test_prompts_rebuild_byte_for_byte_in_both_shapes(tmp_path: Path) -> None:
    prompts = [
        fenced(CONVERSATION, "one\n\ntwo [x]", "{0} “three”]] "),
        plain(CONVERSATION, "It was.", "It was not."),
        plain(CONVERSATION, *"abcdefghi"),
    ]
    read = multiple_choice(path=write(tmp_path, row(prompts[0]), row(prompts[1], 1), row(prompts[2], 4, 9)))
    assert [question.prompt for question in read] == prompts
    assert [question.gold for question in read] == [0, 1, 4]
    assert read[0].options == ("[[[one\n\ntwo [x]]]]", "[[[{0} “three”]] ]]]")
    assert read[2].letters[8] == " (I)"


def test_swapping_exchanges_the_options_and_nothing_else(tmp_path: Path) -> None:
    first, second = multiple_choice(
        path=write(tmp_path, row(fenced(CONVERSATION, "one", "two"), 1), row(plain(CONVERSATION, "x", "y", "z"), 0, 3))
    )
    assert first.swapped().prompt == fenced(CONVERSATION, "two", "one")
    assert first.swapped().gold == 0
    assert second.swapped().prompt == plain(CONVERSATION, "z", "y", "x")
    assert second.swapped().gold == 2
    assert first.swapped().swapped() == first
    assert first.swapped().cluster == first.cluster


def test_rows_of_one_conversation_share_a_cluster_whatever_is_asked(tmp_path: Path) -> None:
    read = multiple_choice(
        path=write(
            tmp_path,
            row(fenced(CONVERSATION, "one", "two")),
            row(fenced(CONVERSATION + "\n\nAssistant: This.", "one", "two")),
            row(fenced(CONVERSATION, "two", "three"), 1),
            row(plain(CONVERSATION, "x", "y")),
        )
    )
    clusters = [question.cluster for question in read]
    assert clusters[0] == clusters[2] == clusters[3] != clusters[1]
    assert len({question.id for question in read}) == 4


good = row(fenced(CONVERSATION, "one", "two"))


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        ({"prompt": good["prompt"]}, "'corrects' must be a list"),
        ({**good, "corrects": " (A)"}, "'corrects' must be a list"),
        ({**good, "corrects": ["(A)"]}, "must be one and the others"),
        ({**good, "corrects": [" (B)"]}, "must be one and the others"),
        ({**good, "corrects": [" (A)", " (B)"], "incorrects": []}, "must be one and the others"),
        ({**good, "corrects": [1]}, "must be one and the others"),
        ({**good, "prompt": good["prompt"] + " "}, "must end with 'The answer is:'"),
        (row(fenced(CONVERSATION, "x\n (B) y", "z")), "stands 2 times in the prompt"),
        (row(plain(CONVERSATION, "x")), "stands 0 times in the prompt"),
        (row(fenced("no marker", "x", "y")), "no conversation before the question"),
        ({"corrects": [" (A)"], "incorrects": [" (B)"]}, "no key 'prompt'"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, bad: dict[str, Any], cause: str) -> None:
    path = write(tmp_path, good, bad)
    with pytest.raises(ValueError) as caught:
        multiple_choice(path=path)
    assert str(caught.value).startswith(f"{tmp_path}/some.shared.jsonl:2: ")
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)
