from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cai_lightning.data.chats import joined
from cai_lightning.data.hh import hh_comparisons, hh_prompts
from cai_lightning.data.preferences import split
from cai_lightning.data.reading import Read
from cai_lightning.text.dialogue import Dialogue, Message, human, prompt_text, reply_text
from cai_lightning.text.records import Label

Q = "\n\nHuman: q\n\nAssistant:"


def write(folder: Path, *pairs: tuple[str, str]) -> Path:
    path = folder / "pairs.jsonl"
    lines = [json.dumps({"chosen": chosen, "rejected": rejected}) + "\n" for chosen, rejected in pairs]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def read(path: Path, *, skip: int = 0, limit: int | None = None, min_reply_chars: int = 1) -> Read[Label]:
    return hh_comparisons(
        path=path, kind="red_team", skip=skip, limit=limit, weight=2.0, min_reply_chars=min_reply_chars
    )


def test_a_pair_becomes_a_certain_label_for_chosen(tmp_path: Path) -> None:
    text = "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant:"
    (row,) = read(write(tmp_path, (text + " yes", text + " no"))).rows
    assert row.prompt.dialogue == (Message("human", "q"), Message("assistant", "a"), Message("human", "r"))
    assert (row.a, row.b, row.p_a, row.weight, row.source) == ("yes", "no", 1.0, 2.0, "hh-rlhf")
    assert row.prompt.kind == "red_team"
    assert (row.principle, row.model, row.logit_ab) == (None, None, None)


def test_a_marker_inside_one_reply_does_not_move_the_prompt(tmp_path: Path) -> None:
    chosen = Q + " first\n\nAssistant: second"
    (row,) = read(write(tmp_path, (chosen, Q + " no"))).rows
    assert row.prompt.dialogue == human("q")
    assert (row.a, row.b) == ("first\n\nAssistant: second", "no")
    # the common beginning ends inside a marker: that marker does not count
    assert split(Q + " x\n\nAssistant: y", Q + " x\n\nAssist") == (human("q"), "x\n\nAssistant: y", "x\n\nAssist")


def test_role_words_blank_lines_and_spaces_in_a_reply_are_text(tmp_path: Path) -> None:
    odd = "  two spaces\n\nHuman nature:\nHuman: no marker\n\n- a {brace} 日本 \ue000 "
    (row,) = read(write(tmp_path, (Q + " " + odd, Q + " no"))).rows
    assert row.a == odd


def test_empty_short_identical_and_repeated_rows_are_counted(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        (Q + " ", Q + " no"),
        (Q + " long enough", Q + ""),
        (Q + " ok", Q + " long enough"),
        (Q + " the same", Q + " the same "),
        (Q + " long enough", Q + " also long"),
        (Q + " long enough", Q + " also long"),
    )
    found = read(path, min_reply_chars=3)
    assert [(row.a, row.b) for row in found.rows] == [("long enough", "also long")]
    assert found.dropped == {"empty_reply": 2, "short_reply": 1, "identical_replies": 1, "duplicate": 1}
    assert len(read(path, min_reply_chars=0).rows) == 2


def test_a_role_that_speaks_twice_becomes_one_turn(tmp_path: Path) -> None:
    text = "\n\nHuman: q\n\nAssistant: a\n\nAssistant: b\n\nHuman: r\n\nAssistant:"
    (row,) = read(write(tmp_path, (text + " yes", text + " no"))).rows
    assert [turn.role for turn in row.prompt.dialogue] == ["human", "assistant", "human"]
    assert row.prompt.dialogue[1].content == "a\n\nb"


def test_a_prompt_without_a_last_human_turn_is_counted(tmp_path: Path) -> None:
    text = "\n\nHuman: q\n\nAssistant: a\n\nAssistant:"
    silent = "\n\nHuman:\n\nAssistant:"
    none = "\n\nAssistant:"
    path = write(tmp_path, *((start + " yes", start + " no") for start in (text, silent, none)))
    assert read(path) == Read([], {"no_human_turn": 3})
    assert hh_prompts(path=path, kind="red_team", skip=0, limit=None) == Read([], {"no_human_turn": 3})


def test_skip_and_limit_count_usable_rows(tmp_path: Path) -> None:
    rows = [(f"{Q} a{i}", f"{Q} b{i}") for i in range(6)]
    path = write(tmp_path, (Q + " ", Q + " x"), *rows[:3], (Q + " ", Q + " y"), *rows[3:])
    assert [row.a for row in read(path, limit=4).rows] == ["a0", "a1", "a2", "a3"]
    assert [row.a for row in read(path, skip=4).rows] == ["a4", "a5"]
    assert read(path, skip=9).rows == []


def test_prompts_are_distinct_and_clustered_by_their_first_turn(tmp_path: Path) -> None:
    longer = "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant:"
    other = "\n\nHuman: p\n\nAssistant:"
    path = write(tmp_path, *((text + " yes", text + " no") for text in (Q, longer, Q, other)))
    found = hh_prompts(path=path, kind="red_team", skip=0, limit=None)
    assert [len(prompt.dialogue) for prompt in found.rows] == [1, 3, 1]
    assert found.dropped == {"duplicate": 1}
    assert found.rows[0].cluster == found.rows[1].cluster != found.rows[2].cluster
    assert [prompt.id for prompt in found.rows] == [read(path).rows[i].prompt.id for i in (0, 1, 2)]
    assert [len(p.dialogue) for p in hh_prompts(path=path, kind="red_team", skip=1, limit=1).rows] == [3]


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ({"chosen": Q + " a"}, "no key 'rejected'"),
        ({"chosen": [Q + " a"], "rejected": Q + " b"}, "'chosen' must be text"),
        ({"chosen": Q + " a", "rejected": "\n\nHuman: p\n\nAssistant: b"}, "share no"),
        ({"chosen": "Q" + Q + " a", "rejected": "Q" + Q + " b"}, "does not start with a Human or Assistant marker"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, row: dict[str, object], cause: str) -> None:
    path = write(tmp_path, (Q + " a", Q + " b"))
    path.write_text(path.read_text() + json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=cause) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:2: ")


# no line starts a turn by itself: a content may hold role words but no marker
words = st.text(st.characters(codec="utf-8"), min_size=1).filter(
    lambda text: text.strip() and "\n\nHuman:" not in f"\n\n{text}" and "\n\nAssistant:" not in f"\n\n{text}"
)


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(words, min_size=1, max_size=5).filter(lambda turns: len(turns) % 2 == 1), words, words)
def test_any_alternating_dialogue_comes_back(turns: list[str], first: str, second: str) -> None:
    roles = ("human", "assistant", "human", "assistant", "human")
    dialogue: Dialogue = tuple(Message(role, text) for role, text in zip(roles, turns, strict=False))  # type: ignore[arg-type]
    texts = [prompt_text(dialogue) + reply_text(reply) for reply in (first, second)]
    assert split(*texts) == (dialogue, first, second)
    assert joined(dialogue) == dialogue
