from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.constitution.lint import block_of, remarks, structure, unknown_words
from cai_lightning.constitution.principles import constitution
from cai_lightning.constitution.source import paper_place

TEMPLATE = "\n\nConsider:{conversation}\n\n{principle}\n(A) {a}\n(B) {b}\n\nThe answer is:"
SHOT = "\n\nHuman: hi\n\nAssistant: go\n\nCritiqueRequest: c\n\nCritique: x\n\nRevisionRequest: r\n\nRevision: hello"
SOUND: dict[str, Any] = {
    "name": "small",
    "principles": [
        {"id": "kind", "critique": "Was it unkind?", "revision": "Be kind.", "comparison": "Which is kinder?"},
        {"id": "safe", "comparison": "Choose the response that does the least harm."},
    ],
    "critique_few_shots": [SHOT],
    "comparison_few_shots": [{"dialogue": "\n\nHuman: hi", "better": "hello", "worse": "no"}],
    "comparison_template": TEMPLATE,
}


def changed(edit: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    block = copy.deepcopy(SOUND)
    edit(block)
    return block


def said(block: dict[str, Any]) -> list[tuple[str, str]]:
    return [(finding.key, finding.problem) for finding in remarks(block, near=0.8)]


def test_a_sound_block_has_no_finding() -> None:
    assert structure(SOUND) == []
    assert said(SOUND) == []


def test_every_fault_is_found_and_not_the_first_alone() -> None:
    block = {
        "name": "faulty",
        "principles": [
            {"id": "a", "critique": "c"},
            {"id": "b", "revision": "r", "comparison": "m"},
            {"id": "c", "comparison": "fine"},
            {"id": "c", "comparison": "fine too"},
            {"id": "d", "comparision": "m"},
            {"id": "e", "critique": "c", "revision": "\n\nRevisionRequest: r"},
            "words",
        ],
        "critique_few_shots": ["Human: hi", SHOT, 3],
        "comparison_few_shots": [{"dialogue": "hi", "better": "b", "worse": "w"}, {"dialogue": "\n\nHuman: x"}],
        "comparison_template": "{conversation}",
        "comparison_shots": [],
    }
    found = structure(block)
    assert all(finding.error for finding in found)
    assert [finding.key for finding in found] == [
        "comparison_shots",
        "principles[0].revision",
        "principles[1].critique",
        "principles[4].comparision",
        "principles[5].revision",
        "principles[6]",
        "critique_few_shots[0]",
        "critique_few_shots[2]",
        "comparison_few_shots[0].dialogue",
        "comparison_few_shots[1].better",
        "comparison_template",
        "principles[3].id",
    ]


def test_each_finding_is_what_constitution_raises_for_that_fault_alone() -> None:
    faults: list[Callable[[dict[str, Any]], object]] = [
        lambda block: block["principles"][1].pop("id"),
        lambda block: block["principles"][0].pop("critique"),
        lambda block: block["critique_few_shots"].append("x"),
        lambda block: block["comparison_few_shots"][0].pop("worse"),
        lambda block: block.update(comparison_template=TEMPLATE + "{a}"),
        lambda block: block.update(principles=[]),
        lambda block: block.update(reasoning={"template": TEMPLATE}),
    ]
    for fault in faults:
        block = changed(fault)
        (found,) = structure(block)
        with pytest.raises(ValueError) as caught:
            constitution(**block)
        assert str(caught.value) == f"{found.key}: {found.problem}"


def test_a_missing_part_is_an_error() -> None:
    assert [finding.key for finding in structure(changed(lambda block: block.pop("comparison_template")))] == [
        "comparison_template"
    ]


REASONING = {
    "template": TEMPLATE,
    "human": "\n\nH:",
    "assistant": "\n\nA:",
    "opening": "\n\nThoughts:",
    "answer": "\n\nThe answer is:",
    "stop": [],
}


def solved(letters: str) -> list[str]:
    return [f"\n\nH: hi {{}}\n\nThoughts: well\n\nThe answer is: ({letter})" for letter in letters]


def test_faults_inside_the_reasoning_are_all_found() -> None:
    block = {**SOUND, "reasoning": {**REASONING, "few_shots": ["no slot", *solved("A"), "none either"]}}
    assert [finding.key for finding in structure(block)] == ["reasoning.few_shots[0]", "reasoning.few_shots[2]"]


def test_letters_of_solved_examples_should_balance() -> None:
    uneven = {**SOUND, "reasoning": {**REASONING, "few_shots": solved("BBABAB")}}
    assert structure(uneven) == []
    assert said(uneven) == [("reasoning.few_shots", "(A) is right 2 times, (B) 4; a judge learns to favour one")]
    for letters in ("BABA", "BAB", "B"):
        assert said({**SOUND, "reasoning": {**REASONING, "few_shots": solved(letters)}}) == []


def test_sets_that_can_only_do_half_are_named() -> None:
    only_comparing = changed(lambda block: block["principles"].pop(0))
    assert [problem[:20] for _, problem in said(only_comparing)] == ["none has a revision,"]
    only_revising = changed(lambda block: (block["principles"].pop(1), block["principles"][0].pop("comparison")))
    assert [problem[:20] for _, problem in said(only_revising)] == ["none has a compariso"]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (TEMPLATE.replace("(A)", "1.").replace("(B)", "2."), "does not show (A)"),
        (TEMPLATE.replace("{a}", "{x}").replace("{b}", "{a}").replace("{x}", "{b}"), "does not show (A)"),
        (TEMPLATE + " ", "ends with white space"),
    ],
)
def test_templates_show_the_letters_that_are_scored(template: str, problem: str) -> None:
    assert structure({**SOUND, "comparison_template": template}) == []
    ((key, text),) = said({**SOUND, "comparison_template": template})
    assert key == "comparison_template" and text.startswith(problem)


def test_critique_examples_show_all_steps() -> None:
    ((key, _),) = said(changed(lambda block: block["critique_few_shots"].append("\n\nHuman: hi\n\nCritique: x")))
    assert key == "critique_few_shots[1]"


def test_a_closed_vocabulary_names_the_words_that_it_lacks() -> None:
    known = {" be", " kind", "\n\nwhich", " is", " kinder"}
    block = {
        "principles": [
            {"critique": "be kind", "revision": "be nice , be good", "comparison": "which is kinder"},
            {"comparison": "is which kinder"},
        ]
    }
    assert [(one.key, one.problem, one.error) for one in unknown_words(block, known)] == [
        ("principles[0].revision", "no word of this world: nice, ,, good", True),
        ("principles[1].comparison", "no word of this world: is, which", True),
    ]


def test_a_built_constitution_goes_back_to_its_block() -> None:
    block = {**SOUND, "reasoning": {**REASONING, "few_shots": solved("AB")}}
    built = constitution(**block)
    assert constitution(**block_of(built)) == built


def test_texts_of_the_paper_are_found_in_its_files() -> None:
    node = {
        "revision_principles": "/r.json",
        "revision_few_shots": "/rf.json",
        "comparison_principles": "/c.json",
        "comparison_few_shots": "/cf.json",
        "reasoning_few_shots": "/t.json",
    }
    block = {"principles": [{"id": "harmful0"}, {"id": "comparison0"}]}
    places = {
        "principles[0].critique": ("/r.json", "harmful0.prompt"),
        "principles[0].revision": ("/r.json", "harmful0.edit_request"),
        "principles[1].comparison": ("/c.json", "[0]"),
        "critique_few_shots[3]": ("/rf.json", "[3]"),
        "comparison_few_shots[2].better": ("/cf.json", "[2].corrects"),
        "reasoning.few_shots[4]": ("/t.json", "[4].prompt"),
    }
    assert {key: paper_place(key, node, block) for key in places} == {
        key: (Path(file), inside) for key, (file, inside) in places.items()
    }
    assert paper_place("comparison_template", node, block) is None
