from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.constitution.critique import critique_prompt, revision_prompt
from cai_lightning.constitution.paper import paper_constitution
from cai_lightning.constitution.principles import Constitution
from cai_lightning.text.dialogue import Message, from_text, human

TEMPLATE = "\n\nConsider:{conversation}\n\n{principle}\n (A) [[[{a}]]]\n (B) [[[{b}]]]\n\nThe answer is:"


def revising(word: str) -> dict[str, Any]:
    return {
        "prompt": [f"\n\nCritiqueRequest: Say what is {word}’s fault.\n\nCritique:"],
        "edit_request": f"\n\nRevisionRequest: Remove what is {word}.\n\nRevision:",
    }


def shot(name: str) -> str:
    return (
        f"\n\nHuman: {name}\n\nAssistant: no\n\nCritiqueRequest: rude?\n\nCritique: yes"
        "\n\nRevisionRequest: be kind\n\nRevision: Sorry!"
    )


def files() -> dict[str, Any]:
    """The shapes of the released files, in other words."""
    return {
        "revision_principles": {f"harmful{i}": revising(f"w{i}") for i in (10, 1, 2, 0)},
        "revision_few_shots": [shot("one") + "\n\nHuman:", shot("two"), shot("three") + "\n\nHuman:"],
        "comparison_principles": ["\nWhich is kinder? Options:", "\nWhich is {safer}? Options:"],
        "comparison_few_shots": [
            {"prompt": "\n\nHuman: hi\n\nAssistant:", "corrects": ["Hello."], "incorrects": ["No."]}
        ],
    }


def load(folder: Path, content: dict[str, Any]) -> Constitution:
    for name, value in content.items():
        (folder / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return paper_constitution(
        name="paper", comparison_template=TEMPLATE, **{name: folder / f"{name}.json" for name in content}
    )


def test_principles_come_in_numeric_order_without_markers(tmp_path: Path) -> None:
    paper = load(tmp_path, files())
    assert [p.id for p in paper.revising] == ["harmful0", "harmful1", "harmful2", "harmful10"]
    assert paper.revising[3].critique == "Say what is w10’s fault."
    assert paper.revising[3].revision == "Remove what is w10."
    assert [p.comparison for p in paper.comparing] == ["\nWhich is kinder? Options:", "\nWhich is {safer}? Options:"]


def test_markers_added_again_give_the_file_s_strings(tmp_path: Path) -> None:
    content = files()
    paper = load(tmp_path, content)
    for principle in paper.revising:
        entry = content["revision_principles"][principle.id]
        asked = critique_prompt((), human("q"), "a", principle)
        assert asked == "\n\nHuman: q\n\nAssistant: a" + entry["prompt"][0]
        assert revision_prompt(asked, "c", principle) == asked + " c" + entry["edit_request"]


def test_few_shots_and_dialogue_join_without_an_empty_turn(tmp_path: Path) -> None:
    paper = load(tmp_path, files())
    text = critique_prompt(paper.critique_few_shots, human("q"), "a", paper.revising[0])
    turns = from_text(text)
    assert [turn.content for turn in turns if turn.role == "human"] == ["one", "two", "three", "q"]
    assert not re.search(r"\n\nHuman:(?! )", text)


def test_comparison_examples_keep_replies_and_drop_the_open_turn(tmp_path: Path) -> None:
    example = load(tmp_path, files()).comparison_few_shots[0]
    assert example.dialogue == (Message("human", "hi"),)
    assert (example.better, example.worse) == ("Hello.", "No.")


def test_a_missing_key_and_a_wrong_shape_name_file_and_entry(tmp_path: Path) -> None:
    content = files()
    del content["revision_principles"]["harmful2"]["edit_request"]
    with pytest.raises(ValueError, match=r"revision_principles\.json\[harmful2\]: no key 'edit_request'"):
        load(tmp_path, content)
    content = files()
    content["revision_principles"]["harmful1"]["prompt"] = ["a", "b"]
    with pytest.raises(ValueError, match=r"\[harmful1\]\.prompt: must be a string or a list of one string"):
        load(tmp_path, content)
    content = files()
    content["revision_principles"]["harmful1"]["prompt"] = "bare words"
    with pytest.raises(ValueError, match=r"\[harmful1\]\.prompt: must run from"):
        load(tmp_path, content)
    content = files()
    content["comparison_principles"] = {"0": "x"}
    with pytest.raises(ValueError, match=r"comparison_principles\.json: must hold a JSON list, holds a dict"):
        load(tmp_path, content)
    content = files()
    content["comparison_few_shots"][0]["corrects"] = []
    with pytest.raises(ValueError, match=r"comparison_few_shots\.json\[0\]\.corrects"):
        load(tmp_path, content)


def test_unreadable_files_are_one_line(tmp_path: Path) -> None:
    load(tmp_path, files())
    (tmp_path / "revision_few_shots.json").write_text('["a",')
    paths = {name: tmp_path / f"{name}.json" for name in files()}
    with pytest.raises(ValueError, match=r"revision_few_shots\.json: not JSON: Expecting value") as caught:
        paper_constitution(name="paper", comparison_template=TEMPLATE, **paths)
    assert "\n" not in str(caught.value)
    paths["revision_few_shots"] = tmp_path / "absent.json"
    with pytest.raises(ValueError, match=r"absent\.json: no such file"):
        paper_constitution(name="paper", comparison_template=TEMPLATE, **paths)
