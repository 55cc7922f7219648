"""Readers: rows of one record from a table and a shape, strict or skipping, with counts."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.data.chains import revised
from cai_lightning.data.chats import column, exchange
from cai_lightning.data.hh import hh_pair
from cai_lightning.data.preferences import asked_margin, by_margin, certain, explicit
from cai_lightning.data.reading import Read
from cai_lightning.data.rows import comparisons, labels, prompts, ratings, responses, revisions
from cai_lightning.data.tables import file_table
from cai_lightning.data.texts import plain_texts
from cai_lightning.stages import comparisons as comparisons_stage
from cai_lightning.stages import responses as responses_stage
from cai_lightning.stages import revisions as revisions_stage
from cai_lightning.stages import unpaired as unpaired_stage
from cai_lightning.text.dialogue import Message, human
from cai_lightning.text.records import (
    Comparison,
    Label,
    Prompt,
    Rating,
    Response,
    Revision,
    read_rows,
    to_line,
    write_rows,
)

Q = "\n\nHuman: q\n\nAssistant:"


def table(*rows: Any) -> list[tuple[str, Any]]:
    return [(f"f:{number}", row) for number, row in enumerate(rows, start=1)]


def read_prompts(*rows: Any, cut: bool = False, skip_bad: bool = False, **window: Any) -> Read[Prompt]:
    chat = partial(column, column="prompt", system=None)
    given = {"skip": 0, "limit": None, **window}
    return prompts(table=table(*rows), chat=chat, cut=cut, source="s", kind="red_team", skip_bad=skip_bad, **given)


def test_prompts_are_distinct_and_clustered_by_their_first_turn() -> None:
    longer = Q + " a\n\nHuman: r\n\nAssistant:"
    found = read_prompts({"prompt": "q"}, {"prompt": longer}, {"prompt": Q})
    assert [len(prompt.dialogue) for prompt in found.rows] == [1, 3]
    assert found.rows[0].cluster == found.rows[1].cluster
    assert {(prompt.source, prompt.kind) for prompt in found.rows} == {("s", "red_team")}
    assert found.dropped == {"duplicate": 1}
    assert read_prompts({"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"}, skip=1, limit=1).rows[0].dialogue == human(
        "b"
    )


def test_transcripts_are_cut_at_their_last_human_turn() -> None:
    transcript = {"prompt": Q + " a\n\nHuman: r\n\nAssistant: b"}
    (found,) = read_prompts(transcript, cut=True).rows
    assert found.dialogue == (Message("human", "q"), Message("assistant", "a"), Message("human", "r"))
    with pytest.raises(ValueError, match="f:1: the prompt must end with a human turn that says something"):
        read_prompts(transcript)


def test_one_bad_row_is_an_error_or_is_counted_and_listed() -> None:
    bad = [{"text": "x"}, {"prompt": ["x"]}, ValueError("not JSON"), {"prompt": " "}]
    for row in bad:
        with pytest.raises(ValueError, match=r"^f:2: "):
            read_prompts({"prompt": "q"}, row)
    found = read_prompts({"prompt": "q"}, *bad, {"prompt": "r"}, skip_bad=True)
    assert [prompt.dialogue for prompt in found.rows] == [human("q"), human("r")]
    assert found.dropped == {"bad_row": 4}
    assert [place.split(": ")[0] for place in found.skipped] == ["f:2", "f:3", "f:4", "f:5"]
    assert found.skipped[0] == "f:2: no key 'prompt'; found text"


def test_system_words_change_the_prompt_and_not_its_cluster() -> None:
    chat = partial(column, column="prompt", system="system")
    rows = table({"prompt": "q", "system": "s"}, {"prompt": "q", "system": None})
    found = prompts(table=rows, chat=chat, cut=False, source="s", kind="k", skip=0, limit=None, skip_bad=False).rows
    assert found[0].dialogue == (Message("system", "s"), *human("q"))
    assert found[0].id != found[1].id and found[0].cluster == found[1].cluster


def read_responses(*rows: Any, every_turn: bool) -> Read[Response]:
    return responses(
        table=table(*rows),
        chat=partial(column, column="messages", system=None),
        every_turn=every_turn,
        source="s",
        kind="benign",
        skip=0,
        limit=None,
        skip_bad=False,
    )


def test_replies_are_the_last_of_a_chat_or_all_of_it() -> None:
    roles = ("user", "assistant", "user", "assistant", "user")
    chat = {"messages": [{"role": role, "content": text} for role, text in zip(roles, "qarbs", strict=True)]}
    (last,) = read_responses(chat, every_turn=False).rows
    assert (last.prompt.dialogue[-1], last.text) == (Message("human", "r"), "b")
    found = read_responses(chat, every_turn=True).rows
    assert [(len(row.prompt.dialogue), row.text) for row in found] == [(1, "a"), (3, "b")]
    assert found[1] == last and found[0].id == found[0].prompt.id
    assert (last.model, last.temperature, last.tokens, last.finish) == ("", 0.0, 0, "stop")


def test_empty_and_repeated_replies_are_counted() -> None:
    rows = [{"messages": Q + reply} for reply in (" a", " b", "  ")]
    found = read_responses(*rows, every_turn=False)
    assert [row.text for row in found.rows] == ["a"]
    assert found.dropped == {"duplicate": 1, "empty_reply": 1}


def test_chains_are_whole_and_one_a_prompt() -> None:
    chain = partial(revised, prompt="p", previous="a", critique=None, revision="b", requests=[])
    rows = table(
        {"p": "q", "a": "x", "b": "y"},
        {"p": "q", "a": "x", "b": "z"},
        {"p": "r", "a": "x", "b": " "},
        {"p": "s", "a": "x", "b": "w"},
    )
    given: dict[str, Any] = {"chain": chain, "source": "s", "kind": "k", "skip_bad": False}
    found = revisions(table=rows, skip=0, limit=None, **given)
    assert [(row.text, row.round, row.id) for row in found.rows] == [
        ("y", 1, f"{found.rows[0].prompt.id}.r1"),
        ("w", 1, f"{found.rows[1].prompt.id}.r1"),
    ]
    assert found.dropped == {"duplicate": 1, "empty_reply": 1}
    assert [row.text for row in revisions(table=rows, skip=1, limit=1, **given).rows] == ["w"]


PAIRS: dict[str, Any] = {"source": "s", "kind": "k", "min_reply_chars": 1, "skip": 0, "limit": None, "skip_bad": False}


def test_labels_are_as_sure_as_they_are_told() -> None:
    pair = partial(explicit, prompt="prompt", chosen="chosen", rejected="rejected", system=None, margin=["margin"])
    rows = table({"prompt": "q", "chosen": "good", "rejected": "bad", "margin": 0.0})
    (sure,) = labels(table=rows, pair=pair, p_chosen=certain, weight=2.0, **PAIRS).rows
    (even,) = labels(table=rows, pair=pair, p_chosen=partial(by_margin, scale=1.0), weight=2.0, **PAIRS).rows
    assert (sure.a, sure.b, sure.p_a, sure.weight, sure.source) == ("good", "bad", 1.0, 2.0, "s")
    assert even.p_a == 0.5 and even.id == sure.id


def test_a_column_of_margins_is_asked_of_the_reward(tmp_path: Path) -> None:
    """Without words about it a margin asks for nothing, and the row's line is what it was."""
    pair = partial(explicit, prompt="prompt", chosen="chosen", rejected="rejected", system=None, margin=["margin"])
    given = {"pair": pair, "p_chosen": certain, "weight": 1.0, **PAIRS}
    row = {"prompt": "q", "chosen": "good", "rejected": "bad", "margin": "1.5"}
    (plain,) = labels(table=table(row), **given).rows
    (asked,) = labels(table=table(row), margin=partial(asked_margin, scale=2.0), **given).rows
    assert (plain.margin, asked.margin) == (0.0, 3.0)
    assert "margin" not in to_line(plain) and json.loads(to_line(asked))["margin"] == 3.0
    write_rows(tmp_path, [plain, asked])
    assert read_rows(tmp_path, Label) == [plain, asked]
    with pytest.raises(ValueError, match=r"f:1: the margin must not be below 0, is -1\.0"):
        labels(table=table({**row, "margin": -1}), margin=partial(asked_margin, scale=1.0), **given)
    bare = {**given, "pair": partial(pair, margin=[]), "margin": partial(asked_margin, scale=1.0)}
    with pytest.raises(ValueError, match="f:1: the pair has no margin"):
        labels(table=table(row), **bare)


RATED = {
    "label": "label",
    "worst": 0.0,
    "best": 1.0,
    "source": "s",
    "kind": "k",
    "weight": 2.0,
    "skip": 0,
    "limit": None,
}


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_file_of_rated_replies(tmp_path: Path, kind: str) -> None:
    """TRL's columns: yes, no, and a probability."""
    rows = [("q", "good", True), ("q", "bad", False), ("r", "so so", 0.25)]
    lines = [json.dumps(dict(zip(("prompt", "completion", "label"), row, strict=True))) for row in rows]
    if kind == "csv":
        lines = ["prompt,completion,label", *(",".join(map(str, row)) for row in rows)]
    path = tmp_path / f"ratings.{kind}"
    path.write_text("".join(f"{line}\n" for line in lines))
    chat = partial(exchange, prompt="prompt", reply="completion", system=None)
    found = ratings(table=file_table(path=path, pattern=None), chat=chat, skip_bad=False, **RATED)
    assert [(row.prompt.dialogue, row.text, row.p_desirable) for row in found.rows] == [
        (human("q"), "good", 1.0),
        (human("q"), "bad", 0.0),
        (human("r"), "so so", 0.25),
    ]
    assert len({row.id for row in found.rows}) == 3
    assert {(row.source, row.prompt.kind, row.weight, row.ended) for row in found.rows} == {("s", "k", 2.0, True)}
    unpaired_stage.run(tmp_path, readers=[found])
    assert read_rows(tmp_path, Rating) == found.rows
    assert json.loads((tmp_path / "counts.json").read_text())["sources"] == {"s": 3}


@pytest.mark.parametrize("label", [None, "yes", 2, -0.1, [True]])
def test_a_rating_is_yes_no_or_a_probability(label: Any) -> None:
    chat = partial(exchange, prompt="prompt", reply="completion", system=None)
    row = {"prompt": "q", "completion": "a", "label": label}
    with pytest.raises(ValueError, match="f:1: 'label' must be a"):
        ratings(table=table(row), chat=chat, skip_bad=False, **RATED)


def test_a_rating_of_harm_is_turned_round() -> None:
    """The HH release rates red-team attempts from 0 to 4, the worst."""
    chat = partial(exchange, prompt="prompt", reply="completion", system=None)
    rows = [{"prompt": "q", "completion": str(rating), "label": rating} for rating in (0, 1.0, "4")]
    found = ratings(table=table(*rows), chat=chat, skip_bad=False, **RATED | {"worst": 4.0, "best": 0.0})
    assert [row.p_desirable for row in found.rows] == [1.0, 0.75, 0.0]
    with pytest.raises(ValueError, match="'label' must be from 4 to 0, is 5"):
        ratings(table=table(rows[0] | {"label": 5}), chat=chat, skip_bad=False, **RATED | {"worst": 4.0, "best": 0.0})
    with pytest.raises(ValueError, match="worst, best: both are"):
        ratings(table=table(*rows), chat=chat, skip_bad=False, **RATED | {"worst": 1.0})


def test_rated_replies_that_say_nothing_are_counted() -> None:
    chat = partial(exchange, prompt="prompt", reply="completion", system=None)
    rows = [{"prompt": p, "completion": c, "label": True} for p, c in (("q", "a"), ("q", "a"), ("q", " "), (" ", "a"))]
    found = ratings(table=table(*rows), chat=chat, skip_bad=False, **RATED)
    assert len(found.rows) == 1
    assert found.dropped == {"duplicate": 1, "empty_reply": 1, "no_human_turn": 1}


def test_comparisons_do_not_show_which_reply_was_chosen() -> None:
    rows = table(*({"chosen": f"{Q} good{n}", "rejected": f"{Q} bad{n}"} for n in range(64)))
    found = comparisons(table=rows, pair=hh_pair, seed=0, **PAIRS).rows
    first = sum(row.a.startswith("good") for row in found)
    assert 16 < first < 48  # four standard deviations of a fair coin
    assert all({row.a[:3], row.b[:3]} == {"goo", "bad"} for row in found)
    assert found == comparisons(table=rows, pair=hh_pair, seed=0, **PAIRS).rows
    assert found != comparisons(table=rows, pair=hh_pair, seed=1, **PAIRS).rows
    assert [row.id for row in found] == [
        row.id for row in labels(table=rows, pair=hh_pair, p_chosen=certain, weight=1.0, **PAIRS).rows
    ]


def test_a_red_team_list_gives_prompts(tmp_path: Path) -> None:
    rows = [
        {"transcript": Q + " a\n\nHuman: more\n\nAssistant: b", "min_harmlessness_score_transcript": -1.5, "rating": 4},
        {
            "transcript": "\n\nHuman: other\n\nAssistant: b\n\n",
            "min_harmlessness_score_transcript": 1.0,
            "rating": None,
        },
    ]
    (tmp_path / "red_team_attempts.jsonl").write_text(json.dumps(rows))
    found = prompts(
        table=file_table(path=tmp_path / "red_team_attempts.jsonl", pattern=None),
        chat=partial(column, column="transcript", system=None),
        cut=True,
        source="red-team-attempts",
        kind="red_team",
        skip=0,
        limit=None,
        skip_bad=False,
    )
    assert [prompt.dialogue[-1].content for prompt in found.rows] == ["more", "other"]


def test_rows_from_files_are_stages(tmp_path: Path) -> None:
    chat = {"messages": Q + " a"}
    for stage, record, reading in (
        (responses_stage, Response, read_responses(chat, every_turn=False)),
        (
            comparisons_stage,
            Comparison,
            comparisons(table=table({"chosen": Q + " a", "rejected": Q + " b"}), pair=hh_pair, seed=0, **PAIRS),
        ),
        (
            revisions_stage,
            Revision,
            revisions(
                table=table({"p": "q", "a": "x", "b": "y"}),
                chain=partial(revised, prompt="p", previous="a", critique=None, revision="b", requests=[]),
                source="s",
                kind="k",
                skip=0,
                limit=None,
                skip_bad=False,
            ),
        ),
    ):
        out = tmp_path / record.__name__
        out.mkdir()
        stage.run(out, readers=[reading])  # type: ignore[attr-defined]
        assert read_rows(out, record) == reading.rows  # type: ignore[attr-defined]
        assert json.loads((out / "counts.json").read_text())["sources"] == {"s": 1}
        assert stage.estimate({"readers": [{"limit": 3}, {"rows": {"limit": 4}}]}).rows == 7  # type: ignore[attr-defined]


def test_replies_of_two_columns() -> None:
    chat = partial(exchange, prompt="question", reply="answer", system=None)
    found = responses(
        table=table({"question": "q", "answer": "a"}),
        chat=chat,
        every_turn=False,
        source="s",
        kind="k",
        skip=0,
        limit=None,
        skip_bad=False,
    )
    assert [(row.prompt.dialogue, row.text) for row in found.rows] == [(human("q"), "a")]


def test_plain_texts_are_files_or_a_field(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second\n\nHuman: text")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "c.txt").write_text(" \n")
    found = plain_texts(path=tmp_path, field=None, limit=None)
    assert found == Read(["first", "second\n\nHuman: text"], {"empty": 1})
    assert plain_texts(path=tmp_path / "a.txt", field=None, limit=None).rows == ["first"]
    (tmp_path / "a.jsonl").write_text('{"body": "one"}\n{"body": ""}\n{"body": "two"}\n{"body": "three"}\n')
    assert plain_texts(path=tmp_path / "a.jsonl", field="body", limit=2).rows == ["one", "two"]
    with pytest.raises(ValueError, match=r"a\.jsonl:1: no key 'text'; found body"):
        plain_texts(path=tmp_path / "a.jsonl", field="text", limit=None)
    (tmp_path / "d.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"d\.txt: .*can't decode"):
        plain_texts(path=tmp_path, field=None, limit=None)
