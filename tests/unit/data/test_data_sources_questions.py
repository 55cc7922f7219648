from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.data.questions import (
    Question,
    example_texts,
    examples,
    first_conversations,
    multiple_choice,
    resolve,
    without_examples,
)

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


def test_conversation_principle_and_options_stand_apart_and_can_be_asked_anew(tmp_path: Path) -> None:
    one, two = multiple_choice(
        path=write(tmp_path, row(fenced(CONVERSATION, "one", "two")), row(plain(CONVERSATION, "x", "y")))
    )
    assert one.conversation == two.conversation == CONVERSATION
    assert one.principle == "\nChoose well. Options:"  # as principles are written: the third newline is theirs
    assert two.principle == "Choose the option that fits:"
    asked = one.asked("Read:{conversation}\n\n{principle}{lines}\nThink:", short=True)
    assert asked == (
        "Read:\n\nH: May I (A) ask?\n\nA: Do.\n\nH: Which?\n\n\nChoose well. Options:"
        "\n (A) [[[one]]]\n (B) [[[two]]]\nThink:"
    )
    assert CONVERSATION in two.swapped().asked("{conversation}|{lines}", short=False)
    assert two.swapped().asked("{lines}", short=False) == "\n (A) y\n (B) x"
    assert two.solved == two.prompt + " (A)"


def about(id: str, conversation: str, gold: int = 0) -> Question:
    return Question(id, "", conversation, "Which?", ("x", "y"), "\nThe answer is:", gold, conversation)


def test_questions_of_conversations_shown_as_examples_are_left_out() -> None:
    questions = [
        about("long", "\n\nHuman: What  now?\n\nAssistant: Wait.\n\nHuman: Why?"),
        about("whole", "\n\nHuman: What is it?"),
        about("whole too", "\n\nHuman: What is it?", gold=1),
        about("begun", "\n\nHuman: What now?"),
        about("prefix", "\n\nHuman: What"),
        about("other", "\n\nHuman: Why?!"),
    ]
    few_shots = [
        "Human: A talk of human (H) and assistant (A):\n\nH: What now?\n\nA:  Wait.\n\nH: Why?\n\n{}\n (A) [[[x]]]",
        "\n\nConsider:\n\nHuman: What is it?\n\n{}",
    ]
    kept, dropped = without_examples(questions, few_shots)
    assert dropped == ["long", "whole", "whole too", "begun"]
    assert [question.id for question in kept] == ["prefix", "other"]
    assert without_examples(questions, []) == (questions, [])


def test_solved_questions_are_balanced_and_their_conversations_are_not_asked() -> None:
    questions = [about(f"{c}{gold}", f"\n\nHuman: {c}", gold=gold) for c in "abcdef" for gold in (0, 0, 1)]
    shown, rest = examples(questions, count=4)
    assert sorted(question.gold for question in shown) == [0, 0, 1, 1]
    assert len({question.cluster for question in shown}) == 4
    assert {question.cluster for question in rest}.isdisjoint(question.cluster for question in shown)
    assert len(rest) == 2 * 3
    assert examples(questions[::-1], count=4)[0] == shown
    assert examples(questions, count=0) == ([], questions)
    for count in (6, 7):  # none left to ask, too few to show
        with pytest.raises(ValueError, match="few-shots"):
            examples(questions, count=count)


def test_example_texts_begin_alike_and_hold_the_principle(tmp_path: Path) -> None:
    path = tmp_path / "examples.json"
    path.write_text(json.dumps([{"prompt": "Human: a {} b"}, {"prompt": "\n\nHuman: c"}]))
    plainly = row(plain(CONVERSATION, "x", "y"))
    asked = write(tmp_path, plainly, plainly)
    wanted = ["\n\nHuman: a Choose the option that fits: b", "\n\nHuman: c"]
    assert example_texts(path=path, questions=asked) == wanted
    with pytest.raises(ValueError, match="asks 2 different things"):
        example_texts(path=path, questions=write(tmp_path, plainly, row(fenced(CONVERSATION, "x", "y"))))
    for content, cause in (
        ('["x"]', "row 1: must be a JSON object, is 'x'"),
        ('[{"prompt": "x"}, {"text": "x"}]', "row 2: no key 'prompt'; found text"),
        ("[", "row 1: cannot be read: not JSON"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=f"^{path}:{cause}"):
            example_texts(path=path, questions=asked)


def test_some_conversations_come_with_all_their_questions() -> None:
    questions = [about(f"{c}{number}", f"\n\nHuman: {c}") for number in (0, 1) for c in "cab"]
    some = first_conversations(questions=questions, count=2)
    assert [question.id for question in some] == ["a0", "b0", "a1", "b1"]
    assert first_conversations(questions=questions, count=None) == questions


def test_resolve_finds_whole_and_shared_files(tmp_path: Path) -> None:
    (tmp_path / "evals").mkdir()
    for name in ("a.jsonl", "a.shared.jsonl", "b.shared.jsonl", "c.shared.jsonl.gz"):
        (tmp_path / "evals" / name).touch()
    folder = tmp_path / "evals"
    assert resolve(tmp_path, "evals/a.jsonl") == folder / "a.jsonl"
    assert resolve(folder, "b.jsonl") == folder / "b.shared.jsonl"
    assert resolve(folder, "b.shared.jsonl") == folder / "b.shared.jsonl"
    assert resolve(folder, "c.jsonl.gz") == folder / "c.shared.jsonl.gz"
    with pytest.raises(ValueError, match=r"d\.jsonl: no such file, nor d\.shared\.jsonl"):
        resolve(folder, "d.jsonl")
