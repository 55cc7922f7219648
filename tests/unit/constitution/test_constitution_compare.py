from __future__ import annotations

from typing import Any

import pytest

from cai_lightning.constitution.compare import Difference, content_hash, differences, word_diff
from cai_lightning.constitution.principles import Constitution, constitution

KIND = {"id": "kind", "critique": "Was it unkind?", "revision": "Be kind."}
SAFE = {"id": "safe", "comparison": "Choose the safer one."}
TEMPLATE = "{conversation}{principle}{a}{b}"


def made(**parts: Any) -> Constitution:
    block: dict[str, Any] = {
        "name": "x",
        "principles": [KIND, SAFE],
        "critique_few_shots": ["\n\nHuman: a", "\n\nHuman: b"],
        "comparison_few_shots": [],
        "comparison_template": TEMPLATE,
    }
    return constitution(**{**block, **parts})


def test_the_hash_is_of_what_is_said_and_not_of_names_and_order() -> None:
    assert content_hash(made(name="y", principles=[SAFE, KIND])) == content_hash(made())


@pytest.mark.parametrize(
    "parts",
    [
        {"principles": [KIND]},
        {"principles": [KIND, {**SAFE, "id": "other"}]},  # the draw is by id
        {"principles": [{**KIND, "revision": "Be kind!"}, SAFE]},
        {"critique_few_shots": ["\n\nHuman: b", "\n\nHuman: a"]},
        {"comparison_few_shots": [{"dialogue": "\n\nHuman: x", "better": "b", "worse": "w"}]},
        {"comparison_template": TEMPLATE + "x"},
    ],
)
def test_the_hash_moves_with_everything_else(parts: dict[str, Any]) -> None:
    assert content_hash(made(**parts)) != content_hash(made())


def test_differences_are_by_id_wherever_the_principle_stands() -> None:
    after = made(
        principles=[{"id": "new", "comparison": "n"}, {**KIND, "revision": "Be very kind."}],
        critique_few_shots=["\n\nHuman: a"],
        comparison_template=TEMPLATE + "x",
    )
    assert differences(made(), after) == [
        Difference("principles.kind.revision", "Be kind.", "Be very kind."),
        Difference("principles.safe.comparison", "Choose the safer one.", None),
        Difference("critique_few_shots[1]", "\n\nHuman: b", None),
        Difference("comparison_template", TEMPLATE, TEMPLATE + "x"),
        Difference("principles.new.comparison", None, "n"),
    ]
    assert differences(made(), made(name="y", principles=[SAFE, KIND])) == []


def test_a_word_diff_holds_both_texts() -> None:
    before, after = "Choose the safer  reply, please.", "Choose the kinder  reply."
    runs = word_diff(before, after)
    assert "".join(text for sign, text in runs if sign != "+") == before
    assert "".join(text for sign, text in runs if sign != "-") == after
    assert runs[:4] == [("=", "Choose the "), ("-", "safer"), ("+", "kinder"), ("=", "  ")]
