"""Rows of any source: a result of the store, or a file whose format shows in its columns."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cai_lightning.commands.players import found
from cai_lightning.commands.workspace import Result, Workspace
from cai_lightning.data import chains, chats, preferences, released, rows
from cai_lightning.data.questions import Question, multiple_choice
from cai_lightning.data.reading import Read, Table, usable
from cai_lightning.data.tables import file_table
from cai_lightning.text.records import (
    ROWS,
    Answer,
    Comparison,
    Label,
    Prompt,
    Response,
    Revision,
    from_object,
    iter_rows,
)

RECORDS: tuple[type[Any], ...] = (Prompt, Response, Revision, Comparison, Label, Answer)
Reader = Callable[[Table], Read[Any]]
_HF_CAI = ("init_prompt", "init_response", "critic_prompt", "critic_response", "revision_prompt", "revision_response")
_PROMPTS = ("prompt", "conversations", "context")
_ASKED = ("prompt", "rl_prompt", "transcript", "text", "question", "goal")


@dataclass(frozen=True)
class SourceRows:
    """Rows of one record with what their source says of them; `format` is for people.

    `dropped` counts what was left out on the way by reason, `skipped` are the places and faults of bad rows.
    """

    name: str
    result: Result
    format: str
    rows: Sequence[Any]
    dropped: Mapping[str, int]
    skipped: Sequence[str]


def source_rows(workspace: Workspace, name: str) -> SourceRows:
    """The rows of a store key, slot of the latest run, file, or folder of parquet or JSON Lines files.

    Raises ValueError where there are none, or their format is not known.
    """
    result = found(workspace, name)
    if result.path.is_dir() and (result.path / ROWS).is_file():
        record = record_of(_first_object(result.path / ROWS))
        if record is None:
            raise ValueError(f"{result.name}: its rows hold no dialogue; prompts, replies, comparisons and labels do")
        return SourceRows(
            name, result, f"{record.__name__} rows", list(iter_rows(result.path / ROWS, record)), *_counts(result.path)
        )
    if result.manifest or (result.path.is_dir() and not (files := _tables(result.path))):
        raise ValueError(f"{result.name}: holds no rows; `cai ls` lists the results")
    paths = files if result.path.is_dir() else [result.path]
    table = list(itertools.chain.from_iterable(file_table(path=path, pattern=None) for path in paths))
    columns = next((list(row) for _, row in table if not isinstance(row, Exception)), None)
    if columns is None:
        raise ValueError(f"{name}: no readable row; the first says: {table[0][1] if table else 'nothing at all'}")
    format, read = _detected(columns, name, result.path)
    got = read(table)
    return SourceRows(name, result, format, got.rows, got.dropped, got.skipped)


def record_of(row: Mapping[str, Any]) -> type[Any] | None:
    """The record of ours that a JSON object is, if any."""
    for record in RECORDS:
        fields = dataclasses.fields(record)
        needed = {field.name for field in fields if field.default is dataclasses.MISSING}
        if needed <= set(row) <= {field.name for field in fields}:
            return record
    return None


def _first_object(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8", newline="\n") as file:
        row: dict[str, Any] = json.loads(next(file, "{}"))
    return row


def _counts(folder: Path) -> tuple[dict[str, int], list[str]]:
    """What `counts.json` beside the rows says was left out, and of bad rows."""
    file = folder / "counts.json"
    counts = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return counts.get("dropped", {}), counts.get("skipped", [])


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith((".parquet", ".jsonl", ".jsonl.gz")))


def _detected(columns: Sequence[str], name: str, path: Path) -> tuple[str, Reader]:
    """The format that columns show, in words, and its reader. Raises ValueError where it is not known."""
    has = set(columns)
    window: dict[str, Any] = dict(skip=0, limit=None, skip_bad=True)
    given: dict[str, Any] = dict(source=path.name, kind="", **window)
    if record := record_of(dict.fromkeys(columns)):
        return f"{record.__name__} rows", partial(_ours, record=record)
    if {"corrects", "incorrects", "prompt"} <= has:
        return "multiple-choice questions", lambda _: Read(multiple_choice(path=path), {})
    if chain := _chain(has):
        return chain[0], lambda table: rows.revisions(table=table, chain=chain[1], **given)
    if pair := _pair(has):
        reader = partial(rows.labels, pair=pair[1], p_chosen=pair[2], weight=1.0, min_reply_chars=1, **given)
        return pair[0], lambda table: reader(table=table)
    if chat := _chat(has):
        return chat[0], lambda table: rows.responses(table=table, chat=chat[1], every_turn=False, **given)
    if column := next((one for one in _ASKED if one in has), None):
        shape = partial(chats.column, column=column, system="system")
        return f"prompts under {column!r}", lambda table: rows.prompts(table=table, chat=shape, cut=True, **given)
    raise ValueError(
        f"{name}: no known format has the columns {', '.join(columns)}; known are our own rows, chosen and rejected, "
        "messages, conversations, prompt and completion, instruction and output, HF-CAI's, the paper's, prompt"
    )


def _chain(has: set[str]) -> tuple[str, chains.Chain] | None:
    if "cst" in has:
        return "the paper's critique traces", released.trace
    if set(_HF_CAI) <= has:
        asked, before, critic, critique, request, after = _HF_CAI
        shape = partial(
            chains.revised, prompt=asked, previous=before, critique=critique, revision=after, requests=[critic, request]
        )
        return "HF-CAI revisions", shape
    return None


def _pair(has: set[str]) -> tuple[str, preferences.PairOf, Callable[[preferences.Pair], float]] | None:
    if {"chosen", "rejected"} <= has:
        certainty = _p_chosen if "p_chosen" in has else preferences.certain
        margin = ["p_chosen"] if "p_chosen" in has else []
        sides: dict[str, Any] = dict(chosen="chosen", rejected="rejected", margin=margin)
        if prompt := next((column for column in _PROMPTS if column in has), None):
            shape = partial(preferences.explicit, prompt=prompt, system="system", **sides)
            return f"preferences: {prompt}, chosen, rejected", shape, certainty
        return "preferences: chosen, rejected", partial(preferences.implicit, **sides), certainty
    if {"context", "completions"} <= has:
        columns: dict[str, Any] = dict(
            prompt="context", completions="completions", rank="rank", completion="completion"
        )
        return "ranked completions", partial(preferences.ranked, **columns), preferences.certain
    return None


def _p_chosen(pair: preferences.Pair) -> float:
    assert pair.margin is not None  # the column was named as the margin
    return pair.margin


def _chat(has: set[str]) -> tuple[str, chats.Chat] | None:
    if "sampled_answers" in has:
        return "the paper's samples, the best of each", partial(released.sampled, rank=0)
    if {"instruction", "output"} <= has:
        return "instruction and output", chats.alpaca
    if {"prompt", "completion"} <= has:
        return "prompt and completion", partial(chats.exchange, prompt="prompt", reply="completion", system="system")
    for column in ("messages", "conversations"):
        if column in has:
            return column, partial(chats.column, column=column, system="system")
    return None


def _ours(table: Table, *, record: type[Any]) -> Read[Any]:
    dropped: Counter[str] = Counter()
    skipped: list[str] = []
    made: Iterable[Any] = usable(
        table, lambda row: from_object(dict(row), record), skip_bad=True, dropped=dropped, skipped=skipped
    )
    return Read(list(made), dict(dropped), skipped)


def sides(row: Any) -> dict[str, str]:
    """The replies of a row by what they are called; a pair's likelier one is `chosen`."""
    if isinstance(row, Label):
        return {"chosen": row.a, "rejected": row.b} if row.p_a >= 0.5 else {"chosen": row.b, "rejected": row.a}
    if isinstance(row, Comparison):
        return {"a": row.a, "b": row.b}
    if isinstance(row, Revision):
        return {"previous": row.previous, "revision": row.text}
    return {"reply": row.text} if isinstance(row, Response | Answer) else {}


def asked(row: Any) -> Any:
    """What a row's replies answer: a dialogue, of a question its text."""
    return row.prompt if isinstance(row, Question) else getattr(row, "prompt", row).dialogue
