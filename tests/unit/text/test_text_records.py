"""Rows: written and read back the same, and read strictly."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_lightning.text.dialogue import Message, human
from cai_lightning.text.records import (
    Comparison,
    Label,
    Prompt,
    Reference,
    Response,
    from_object,
    prompt_id,
    read_rows,
    to_line,
    write_rows,
)

PROMPT = Prompt(id="p", dialogue=human("hi"), source="s", kind="red_team", cluster="c")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_row_survives_its_line_whatever_the_text(text: str) -> None:
    row = Prompt(id="p", dialogue=(Message("human", text),), source="s", kind="k", cluster="c")
    line = to_line(row)
    assert line.count("\n") == 1
    assert from_object(json.loads(line), Prompt) == row


def test_rows_are_split_at_newlines_only(tmp_path: Path) -> None:
    rows = [
        Response(
            id=str(number),
            prompt=PROMPT,
            text="one\u2028two\u0085three\rfour\x0bfive",
            model="m",
            temperature=1.0,
            seed=0,
            prompt_tokens=1,
            tokens=2,
            finish="stop",
        )
        for number in range(2)
    ]
    assert write_rows(tmp_path, rows) == 2
    assert read_rows(tmp_path, Response) == rows


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ('{"id": "1", "logp_a": 0.0}', "missing field 'logp_b'"),
        ('{"id": "1", "logp_a": 0.0, "logp_b": 0.0, "logp_c": 0.0}', "unknown field 'logp_c'"),
        ('{"id": "1", "logp_a"', "Expecting ':' delimiter"),
        ("", "Expecting value"),
        ("7", "not iterable"),
    ],
)
def test_a_bad_line_is_one_error_with_file_and_line(tmp_path: Path, line: str, cause: str) -> None:
    good = '{"id": "0", "logp_a": 0.0, "logp_b": 0.0}\n'
    (tmp_path / "rows.jsonl").write_text(good + line + "\n")
    with pytest.raises(ValueError, match=r"rows\.jsonl:2: not a Reference: ") as error:
        read_rows(tmp_path, Reference)
    assert cause in str(error.value)
    assert "\n" not in str(error.value)


def test_figures_that_json_does_not_know_are_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_line(Reference(id="1", logp_a=float("nan"), logp_b=0.0))


def test_equal_prompts_share_their_id() -> None:
    # printf '\n\nHuman: hi' | sha256sum
    assert prompt_id(human("hi")) == "17fd930939499861"
    assert prompt_id(human("hi ")) != prompt_id(human("hi"))


def test_what_hardly_ever_holds_is_written_only_where_it_does(tmp_path: Path) -> None:
    fields = dict(prompt=PROMPT, a="x", b="y", source="s", model="m", temperature=1.0, seed=0)
    plain, open = Comparison(id="1", **fields), Comparison(id="2", **fields, ended=(True, False))  # type: ignore[arg-type]
    write_rows(tmp_path, [plain, open])
    assert ["ended" in line for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == [False, True]
    assert read_rows(tmp_path, Comparison) == [plain, open]


def test_lists_come_back_as_tuples_and_a_row_from_before_a_field_was_added_is_read(tmp_path: Path) -> None:
    row = Label(
        id="1",
        prompt=PROMPT,
        a="x",
        b="y",
        p_a=0.5,
        logit_ab=None,
        logit_ba=None,
        principle=None,
        principle_hash=None,
        model=None,
        source="s",
        weight=1.0,
        logits=(0.5, -0.5),
        thoughts=("one", "two"),
    )
    write_rows(tmp_path, [row])
    assert read_rows(tmp_path, Label) == [row]
    before = {name: value for name, value in json.loads(to_line(row)).items() if name not in ("logits", "thoughts")}
    assert from_object(before, Label).thoughts == ()
