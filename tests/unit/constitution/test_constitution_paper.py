from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.constitution.critique import critique_steps, revision_steps
from cai_lightning.constitution.paper import paper_constitution
from cai_lightning.constitution.principles import Constitution
from cai_lightning.constitution.questions import Asking, asking, drawn, fixed, per_run
from cai_lightning.constitution.styles import Style, solved, text, turns
from cai_lightning.text.dialogue import Message, from_text, human
from cai_lightning.text.records import Comparison, Prompt

TEMPLATE = "\n\nConsider:{conversation}\n\n{principle}\n (A) [[[{a}]]]\n (B) [[[{b}]]]\n\nThe answer is:"
REASONING = {
    "template": "\n\nHuman: Weigh what a human (H) and an assistant (A) say:{conversation}\n\n{principle}"
    "\n (A) {a}\n (B) {b}",
    "human": "\n\nH:",
    "assistant": "\n\nA:",
    "opening": "\n\nAssistant: Step by step:",
    "answer": "\n\nHuman:\nSo the answer is:",
    "stop": ["\n\nHuman:"],
}


def thinking(start: str, letter: str) -> dict[str, str]:
    return {
        "prompt": f"{start}Human: Weigh this:\n\nH: hi\n\nA: ho\n\nH: well?\n\n{{}}\n (A) [[[x]]]\n (B) [[[y]]]"
        f"\n\nAssistant: Step by step:\n(A) is so.\n\nSo it is.\n\nHuman:\nSo the answer is: ({letter})"
    }


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
        "reasoning_few_shots": [thinking("\n\n", "B"), thinking("\n", "A"), thinking("", "B")],
    }


def load(folder: Path, content: dict[str, Any]) -> Constitution:
    for name, value in content.items():
        (folder / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return paper_constitution(
        name="paper",
        comparison_template=TEMPLATE,
        reasoning=REASONING,
        **{name: folder / f"{name}.json" for name in content},
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
        steps = critique_steps(human("q"), "a", principle)
        asked = text((), steps)
        assert asked == "\n\nHuman: q\n\nAssistant: a" + entry["prompt"][0]
        assert text((), revision_steps(steps, "c", principle)) == asked + " c" + entry["edit_request"]


def test_few_shots_and_dialogue_join_without_an_empty_turn(tmp_path: Path) -> None:
    paper = load(tmp_path, files())
    asked = critique_steps(human("q"), "a", paper.revising[0])
    examples = [solved(shot) for shot in paper.critique_few_shots]
    joined = text(examples, asked)
    said = from_text(joined)
    assert [turn.content for turn in said if turn.role == "human"] == ["one", "two", "three", "q"]
    assert not re.search(r"\n\nHuman:(?! )", joined)
    chat = turns(examples, asked, system=None)
    assert [turn.role for turn in chat] == ["human", "assistant"] * 10 + ["human"]
    assert [turn.content for turn in chat[6:12]] == ["two", "no", "rude?", "yes", "be kind", "Sorry!"]


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
        paper_constitution(name="paper", comparison_template=TEMPLATE, reasoning=REASONING, **paths)
    assert "\n" not in str(caught.value)
    paths["revision_few_shots"] = tmp_path / "absent.json"
    with pytest.raises(ValueError, match=r"absent\.json: no such file"):
        paper_constitution(name="paper", comparison_template=TEMPLATE, reasoning=REASONING, **paths)


def reasoned(paper: Constitution, style: Style) -> Asking:
    return asking(paper, reasoning=True, style=style, order=fixed, pick=drawn, few_shot_draw=per_run, seed=0)


def asked() -> Comparison:
    said = (Message("human", "one?"), Message("assistant", "Two."), Message("human", "Three {x}?"))
    prompt = Prompt(id="p", dialogue=said, source="s", kind="red_team", cluster="c")
    return Comparison(id="x", prompt=prompt, a="a\n\nb", b="c", source="s", model="m", temperature=1.0, seed=0)


def test_a_prompt_with_chain_of_thought_is_this_text_byte_for_byte(tmp_path: Path) -> None:
    content = files()
    content["comparison_principles"] = ["\nWhich is kinder? Options:"]
    asks = reasoned(load(tmp_path, content), text)
    (question,) = asks.questions(asked())
    shot = (
        "\n\nHuman: Weigh this:\n\nH: hi\n\nA: ho\n\nH: well?\n\n\nWhich is kinder? Options:"
        "\n (A) [[[x]]]\n (B) [[[y]]]\n\nAssistant: Step by step:\n(A) is so.\n\nSo it is."
        "\n\nHuman:\nSo the answer is: "
    )
    prompt = (
        shot + "(B)" + shot + "(A)" + shot + "(B)"
        "\n\nHuman: Weigh what a human (H) and an assistant (A) say:\n\nH: one?\n\nA: Two.\n\nH: Three {x}?"
        "\n\n\nWhich is kinder? Options:\n (A) a\n\nb\n (B) c\n\nAssistant: Step by step:"
    )
    assert question.prompt == prompt
    query = question.query(*asks.form.thought("First this.\n\nThen that."))  # type: ignore[union-attr]
    assert query.prompt == prompt + " First this.\n\nThen that.\n\nHuman:\nSo the answer is:"
    assert query.continuations == (" (A)", " (B)")
    # a thought that begins on a line of its own stays there
    query = question.query(*asks.form.thought("\n(A) is so."))  # type: ignore[union-attr]
    assert query.prompt == prompt + "\n(A) is so.\n\nHuman:\nSo the answer is:"


def test_with_chain_of_thought_in_a_chat_the_letter_opens_the_assistant_s_turn(tmp_path: Path) -> None:
    content = files()
    content["comparison_principles"] = ["\nWhich is kinder? Options:"]
    asks = reasoned(load(tmp_path, content), lambda examples, steps: turns(examples, steps, system=None))
    (question,) = asks.questions(asked())
    assert isinstance(question.prompt, tuple)
    (*shots, last, opening) = question.prompt
    assert opening == Message("assistant", "Step by step:")
    assert last.content.startswith("Weigh what a human (H)")
    assert last.content.endswith("\n (A) a\n\nb\n (B) c")
    weigh = "Weigh this:\n\nH: hi\n\nA: ho\n\nH: well?\n\n\nWhich is kinder? Options:\n (A) [[[x]]]\n (B) [[[y]]]"
    assert shots[:4] == [
        Message("human", weigh),
        Message("assistant", "Step by step:\n(A) is so.\n\nSo it is."),
        Message("human", "So the answer is:"),
        Message("assistant", "(B)"),
    ]
    query = question.query(*asks.form.thought("First."))  # type: ignore[union-attr]
    assert query.prompt[-2:] == (Message("assistant", "Step by step: First."), Message("human", "So the answer is:"))


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (lambda shot: shot.replace("{}", ""), "slot"),
        (lambda shot: shot.replace("{}", "{}{}"), "slot"),
        (lambda shot: shot.replace("Step by step:", "Well:"), "must hold"),
        (lambda shot: shot[:-4], "must hold"),
    ],
)
def test_a_reasoning_example_of_another_shape_is_one_line(tmp_path: Path, broken: Any, problem: str) -> None:
    content = files()
    content["reasoning_few_shots"][1]["prompt"] = broken(content["reasoning_few_shots"][1]["prompt"])
    with pytest.raises(ValueError, match=rf"^reasoning\.few_shots\[1\]: .*{problem}"):
        load(tmp_path, content)
