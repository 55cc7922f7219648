from __future__ import annotations

from functools import partial

import pytest

from cai_lightning.constitution.styles import Step, after, marked, more, said, solved, system, text, turn, turns
from cai_lightning.text.dialogue import Message, human

SHOT = (
    "\n\nHuman: one\n\ntwo Critique: three\n\nAssistant:  four\n\nHuman:\n\nAssistant: five"
    "\n\nCritiqueRequest: rude?\n\nCritique: yes\nRevision: no\n\nRevisionRequest: be kind\n\nRevision: Sorry!\n"
)


def test_an_example_falls_into_its_turns_and_joins_again_byte_for_byte() -> None:
    steps = solved(SHOT)
    assert text([steps], ()) == SHOT
    assert [(step.role, step.words) for step in steps] == [
        ("human", "one\n\ntwo Critique: three"),
        ("assistant", " four"),
        ("human", ""),
        ("assistant", "five"),
        ("human", "rude?"),
        ("assistant", "yes\nRevision: no"),
        ("human", "be kind"),
        ("assistant", "Sorry!\n"),
    ]


def test_the_three_ways_of_one_question() -> None:
    example = (turn("human", "\n\nGood or bad?"), turn("assistant", "\n\nIt is:"), more(" good"))
    asked = (*said(human("hi")), marked("human", "\n\nNow:", "well?"), marked("assistant", "\n\nThen:", ""))
    assert text([example], asked) == "\n\nGood or bad?\n\nIt is: good\n\nHuman: hi\n\nNow: well?\n\nThen:"
    assert turns([example], asked, system="s") == (
        Message("system", "s"),
        Message("human", "Good or bad?"),
        Message("assistant", "It is: good"),
        Message("human", "hi"),
        Message("human", "well?"),
    )
    assert system([example], asked, heading="Such as:", system=None)[0] == Message(
        "system", "Such as:\n\nGood or bad?\n\nIt is: good"
    )


@pytest.mark.parametrize("style", [partial(turns, system=None), partial(system, heading="h", system=None)])
def test_a_turn_begun_for_the_assistant_stays_open_and_an_empty_one_is_left_to_the_format(style: object) -> None:
    begun = (turn("human", "\n\nq"), turn("assistant", "\n\nIt is:"))
    assert style((), begun)[-1] == Message("assistant", "It is:")  # type: ignore[operator]
    empty = (turn("human", "\n\nq"), marked("assistant", "\n\nCritique:", ""))
    assert style((), empty)[-1] == Message("human", "q")  # type: ignore[operator]


def test_a_turn_loses_one_marker_of_its_own_and_no_more() -> None:
    assert turn("human", "\n\nHuman: Human: hi").words == "Human: hi"
    assert turn("human", "\n\nHuman:\nSo the answer is:").words == "So the answer is:"
    assert turn("human", "\n\nConsider:\n\nHuman: hi").words == "Consider:\n\nHuman: hi"
    assert turn("assistant", "\n\nThoughts:").words == "Thoughts:"


def test_an_answer_goes_on_in_an_open_turn_and_else_opens_its_own() -> None:
    assert after((turn("assistant", "\n\nIt is:"),), " (A)") == Step(None, " (A)", " (A)")
    assert after((turn("assistant", "x"), more("y")), " (A)").role is None
    assert after((turn("human", "\n\nIt is:"),), " (A)") == Step("assistant", " (A)", "(A)")
