"""One dialogue in every shape that people bring is one dialogue of ours."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai_lightning.data.chats import alpaca, column, exchange, joined, replies, tagged
from cai_lightning.text.dialogue import Dialogue, Message, human

THREE = (Message("human", "q"), Message("assistant", "a"), Message("human", "r"))
CHATML = {"system": "<|im_start|>system\n", "human": "<|im_start|>user\n", "assistant": "<|im_start|>assistant\n"}


def in_column(value: Any, **row: Any) -> Dialogue:
    return column({"x": value, **row}, column="x", system="system")


@pytest.mark.parametrize(
    "value",
    [
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "r"}],
        [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}, {"from": "human", "value": "r"}],
        [
            {"from": "User", "value": "q", "label": None},
            {"from": "Assistant", "value": "a", "label": "quality:4"},
            {"from": "User", "value": "r", "label": None},
        ],
        [
            {"role": "user", "content": [{"type": "text", "text": "q"}]},
            {"role": "model", "content": "a"},
            {"role": "user", "content": "r", "name": None, "tool_calls": None},
        ],
        "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant:",
        "\n\nHuman: q\n\nAssistant: a\n\nHuman: r",
    ],
)
def test_message_lists_and_texts_say_the_same(value: Any) -> None:
    assert in_column(value) == THREE


def test_a_plain_text_is_one_human_turn_as_it_stands() -> None:
    assert in_column(" {q}\nHuman: said\n") == human(" {q}\nHuman: said\n")


def test_system_words_stand_first() -> None:
    system = Message("system", "s")
    assert in_column([{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]) == (system, *human("q"))
    assert in_column("q", system="s") == (system, *human("q"))
    assert in_column("q", system="") == in_column("q", system=None) == human("q")
    both = in_column([{"role": "system", "content": "s"}, {"role": "user", "content": "q"}], system="t")
    assert both[0] == Message("system", "t\n\ns")


def test_turns_of_one_role_become_one() -> None:
    found = in_column([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
    assert found == human("a\n\nb")


def test_prompt_and_completion_columns_make_a_chat() -> None:
    def made(prompt: Any, completion: Any) -> Dialogue:
        row = {"prompt": prompt, "completion": completion}
        return exchange(row, prompt="prompt", reply="completion", system=None)

    wanted = (*human("q"), Message("assistant", "a"))
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert made("q", " a") == made("q", "a") == wanted
    assert made("\n\nHuman: q\n\nAssistant:", " a") == wanted
    assert made(messages[:1], messages[1:]) == made("q", messages) == wanted
    assert made("q", "\n\nHuman: q\n\nAssistant: a") == wanted
    # a reply keeps what follows the one space that belongs to the marker
    assert made("q", "  a\n\nAssistant: b ")[-1].content == " a\n\nAssistant: b "
    with pytest.raises(ValueError, match="repeats another prompt"):
        made("other", messages)
    with pytest.raises(ValueError, match=r"must add one assistant turn to the prompt, adds \['human'\]"):
        made("q", messages[:1])


def test_alpaca_joins_instruction_and_input() -> None:
    assert alpaca({"instruction": "i", "input": "x", "output": "o"}) == (*human("i\n\nx"), Message("assistant", "o"))
    assert alpaca({"instruction": "i", "input": "", "output": "o"})[0] == human("i")[0]
    assert alpaca({"instruction": "i", "output": "o", "system": "s"})[0] == Message("system", "s")


def test_texts_with_tags_of_their_own() -> None:
    text = "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
    found = tagged({"text": text}, column="text", end="<|im_end|>\n", **CHATML)
    assert found == (Message("system", "s"), *human("q"), Message("assistant", "a"))
    nemo = {"system": "<extra_id_0>System\n", "human": "<extra_id_1>User\n", "assistant": "<extra_id_1>Assistant\n"}
    text = "<extra_id_0>System\n\n<extra_id_1>User\nq\n<extra_id_1>Assistant\n"
    assert tagged({"text": text}, column="text", end="\n", **nemo) == human("q")
    with pytest.raises(ValueError, match="must start with one of the tags"):
        tagged({"text": "q"}, column="text", end="", **nemo)


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ([], "must be text or a list of messages"),
        (None, "must be text or a list of messages, is None"),
        (3, "must be text or a list of messages"),
        (["q"], r"x\[0\] must be a message with role and content"),
        ([{"role": "user"}], "no key 'content'; found role"),
        ([{"role": "user", "content": None}], r"'x\[0\].content' must be text, is None"),
        ([{"role": "tool", "content": "q"}], r"x\[0\] has the role 'tool'; known are system"),
        ([{"role": "assistant", "content": "", "tool_calls": [{}]}], "has tool_calls, which dialogues cannot hold"),
        ([{"role": "user", "content": [{"type": "image"}]}], "parts that are no text"),
        ([{"role": "user", "content": "q"}, {"role": "system", "content": "s"}], "system turn as its turn 2"),
        ("before\n\nHuman: q\n\nAssistant:", "holds a Human or Assistant marker but does not start with one"),
        ("half \ud83d", "half a surrogate pair"),
    ],
)
def test_other_values_are_refused_with_the_cause(value: Any, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        in_column(value)


def test_replies_are_the_answers_to_human_turns() -> None:
    dialogue = (Message("assistant", "hi"), *THREE, Message("assistant", "b"))
    assert replies(dialogue) == [(dialogue[:2], "a"), (dialogue[:4], "b")]
    with pytest.raises(ValueError, match="no assistant turn that answers"):
        replies(dialogue[:2])


turn = st.tuples(st.sampled_from(["user", "assistant"]), st.text(st.characters(codec="utf-8")))


@settings(deadline=None)
@given(st.booleans(), st.lists(turn, min_size=1, max_size=5))
def test_any_message_list_comes_back(system: bool, turns: list[tuple[str, str]]) -> None:
    messages = [("system", "s")] * system + turns
    for names in (("role", "content"), ("from", "value")):
        found = in_column([dict(zip(names, message, strict=True)) for message in messages])
        roles = {"user": "human"}
        wanted = [Message(roles.get(role, role), content) for role, content in messages]  # type: ignore[arg-type]
        assert found == joined(wanted)
        if all(one[0] != after[0] for one, after in itertools.pairwise(messages)):
            assert found == tuple(wanted)
