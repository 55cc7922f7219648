"""Dialogues as text, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_lightning.text.dialogue import Message, from_text, human, prompt_text, reply_text, to_text

WORDS = st.text().filter(lambda text: "\n\nHuman:" not in f"\n\n{text}" and "\n\nAssistant:" not in f"\n\n{text}")
DIALOGUES = st.lists(st.tuples(st.sampled_from(["human", "assistant"]), WORDS), min_size=1, max_size=5)


@given(DIALOGUES)
def test_text_and_dialogue_are_the_same_both_ways(turns: list[tuple[str, str]]) -> None:
    dialogue = tuple(Message(role, content) for role, content in turns)  # type: ignore[arg-type]
    open_turn = dialogue[-1] == Message("assistant", "")
    # content that starts where a marker may end: "\n\nHuman:" + " " + content
    assert from_text(to_text(dialogue)) == (dialogue[:-1] if open_turn else dialogue)


@given(WORDS.filter(bool), WORDS.filter(bool))
def test_a_prompt_with_its_reply_is_the_dialogue_with_one_more_turn(question: str, reply: str) -> None:
    whole = prompt_text(human(question)) + reply_text(reply)
    assert from_text(whole) == (*human(question), Message("assistant", reply))


def test_the_text_is_that_of_the_releases() -> None:
    dialogue = (Message("human", "hi"), Message("assistant", "Human: no turn"), Message("human", " two  spaces "))
    text = "\n\nHuman: hi\n\nAssistant: Human: no turn\n\nHuman:  two  spaces "
    assert to_text(dialogue) == text
    assert from_text(text) == dialogue
    assert prompt_text(human("hi")) == "\n\nHuman: hi\n\nAssistant:"


@pytest.mark.parametrize("text", ["", "hi", "Human: hi", "\nHuman: hi", " \n\nHuman: hi"])
def test_text_without_a_first_marker_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not start with a Human or Assistant marker"):
        from_text(text)
