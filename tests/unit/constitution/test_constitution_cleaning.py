from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from cai_lightning.constitution.cleaning import Cleaning, Rule, cleaned, cleaning
from cai_lightning.experiment.compose import CONF
from cai_lightning.experiment.targets import construct


def load(name: str) -> Cleaning:
    built = construct(OmegaConf.to_container(OmegaConf.load(CONF / "cleaning" / f"{name}.yaml")))
    assert isinstance(built, Cleaning)
    return built


def rules(*pairs: tuple[str, str]) -> tuple[Rule, ...]:
    return cleaning(critique=[], revision=[{"name": n, "pattern": p, "replacement": ""} for n, p in pairs]).revision


def test_rules_act_one_after_the_other_and_name_themselves() -> None:
    assert cleaned("a b c", rules(("one", r"\Aa"), ("two", r"\Ab"), ("three", r"\Aa"))) == ("c", ("one", "two"))
    assert cleaned("a b c", ()) == ("a b c", ())


def test_a_rule_never_takes_the_whole_text() -> None:
    assert cleaned("Note", rules(("all", r".*"))) == ("Note", ())


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"name": "x", "pattern": "(", "replacement": ""}, r"cleaning\.revision\[1\]\.pattern: "),
        ({"name": "x", "pattern": "a", "replacement": r"\2"}, r"cleaning\.revision\[1\]\.pattern: invalid group"),
        ({"name": "x", "pattern": "a"}, r"cleaning\.revision\[1\]: has the keys name, pattern;"),
        ({"name": "first", "pattern": "a", "replacement": ""}, r"cleaning\.revision\[1\]\.name: 'first' occurs twice"),
    ],
)
def test_a_rule_that_is_wrong_is_one_line_that_names_it(rule: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        cleaning(critique=[], revision=[{"name": "first", "pattern": "a", "replacement": ""}, rule])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "left", "fired"),
    [
        ('Sure, here is the revised response:\n\n"Hello."', "Hello.", ("preamble", "quotes")),
        ("Certainly! Here\u2019s a rewritten version of my reply:\nHello.", "Hello.", ("preamble",)),
        ("Here is a more careful text: Hello.", None, ()),
        ("**Revised Response:**\n\nHello.", "Hello.", ("bold_label", "label")),
        ("## Revision\nHello.", "Hello.", ("bold_label", "label")),
        ("Revision: Hello.", "Hello.", ("label",)),
        ("Assistant: Hello.", "Hello.", ("marker",)),
        ("Hello.\n\nAssistant: Hello again.", "Hello.", ("second_reply",)),
        ("Hello.\n\nRevistionRequest: now politely", "Hello.", ("tag",)),
        ("Hello.\n\n(Note: I have revised it\nto be kind.)", "Hello.", ("note",)),
        ("Hello.\n\n---\n\n**Note:** This revised response is kind.", "Hello.", ("note", "rule")),
        ("Hello.\n\n-------------\n\n", "Hello.", ("rule",)),
        ("\u201cHello.\u201d", "Hello.", ("quotes",)),
        # what a reply may well say
        ("Here are the steps of the revised plan: one, two.", None, ()),
        ("Sure, here is a list: one, two.", None, ()),
        ("Hello.\n\nNote: ask a doctor first.", None, ()),
        ("Note: I have revised my view.\n\nHello.", None, ()),
        ('"Hello" and "bye" are words.', None, ()),
        ("One\n\n---\n\nTwo", None, ()),
        ("In response: no.", None, ()),
        ("Revisions are made by hand.", None, ()),
    ],
)
def test_the_shipped_rules_take_off_what_stands_round_a_revision(
    written: str, left: str | None, fired: tuple[str, ...]
) -> None:
    assert cleaned(written.strip(), load("chat").revision) == (written if left is None else left, fired)


@pytest.mark.parametrize(
    ("written", "left", "fired"),
    [
        ("Sure, here is a critique of the last reply:\n\nIt is rude.", "It is rude.", ("preamble",)),
        ("**Critique:** It is rude.", "It is rude.", ("bold_label", "label")),
        ("It is rude.\n\nRevisionNone: it needs none", "It is rude.", ("tag",)),
        ("It is rude.\n\nRevision: Hello.", "It is rude.", ("revision",)),
        ("Here are the faults: it is rude.", None, ()),
        ('"Hello" is rude. A revision is due: be kind.', None, ()),
    ],
)
def test_the_shipped_rules_take_off_what_stands_round_a_critique(
    written: str, left: str | None, fired: tuple[str, ...]
) -> None:
    assert cleaned(written, load("chat").critique) == (written if left is None else left, fired)


def test_no_rules_is_a_choice_too() -> None:
    assert load("none") == Cleaning((), ())
