"""The paper's released samples: 17 scored replies a prompt, and traces of four rounds of revision.

Replies may end with the marker of the next human turn, after one newline or two, or with none; it is cut.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cai_lightning.constitution.principles import Principle
from cai_lightning.data.chains import Step
from cai_lightning.data.chats import turns
from cai_lightning.data.preferences import Pair
from cai_lightning.data.reading import Fields, text_of, value_of
from cai_lightning.data.reshape import number_of
from cai_lightning.text.dialogue import Dialogue, Message

_END = re.compile(r"\n\n?Human:\s*\Z")


def sampled(row: Fields, *, rank: int) -> Dialogue:
    """The prompt of a row and one of its sampled replies; they stand in the order of their scores, 0 the best."""
    return (*_asked(row), Message("assistant", _ranked(row, rank)[0][0]))


def sampled_pair(row: Fields, *, better: int, worse: int) -> Pair:
    """Two of a row's sampled replies, by rank; the margin is the difference of their preference model scores."""
    (chosen, high), (rejected, low) = _ranked(row, better, worse)
    return Pair(_asked(row), chosen, rejected, high - low)


def answers(row: Fields) -> list[tuple[str, float]]:
    """A row's sampled texts as they stand, and their scores, the best first. Raises ValueError on another order."""
    found = _several(row, "sampled_answers")
    scores = [number_of(_only(answer, "pm_scores"), "pm_score") for answer in found]
    if scores != sorted(scores, reverse=True):
        raise ValueError("the sampled answers do not stand in the order of their scores")
    return [(text_of(answer, "sampled_string"), score) for answer, score in zip(found, scores, strict=True)]


def words(text: str) -> str:
    """A sampled text without the marker at its end and outer white space."""
    return _END.sub("", text).strip()


def trace(row: Fields) -> tuple[Dialogue, list[Step]]:
    """The chain of a row: an initial reply and its rounds of critique and revision, each under a named principle."""
    text = _sample(_only(row, "initial_response"))
    steps = []
    for number, entry in enumerate(_several(row, "cst")):
        after = _sample(_part(entry, "revision", f"cst[{number}]"))
        critique = _sample(_part(entry, "critique", f"cst[{number}]"))
        steps.append(Step(text, critique, after, _principle(entry, f"cst[{number}]")))
        text = after
    return _asked(row), steps


def _asked(row: Fields) -> Dialogue:
    return turns(value_of(row, "rl_prompt"), "rl_prompt")


def _ranked(row: Fields, *ranks: int) -> list[tuple[str, float]]:
    """Replies and scores at some ranks. Raises ValueError where there are fewer."""
    found = answers(row)
    if max(ranks) >= len(found):
        raise ValueError(f"has {len(found)} sampled answers, none of rank {max(ranks)}")
    return [(words(found[rank][0]), found[rank][1]) for rank in ranks]


def _principle(entry: Fields, key: str) -> Principle:
    words = _part(entry, "cst_value", key)
    request = value_of(words, "prompt")
    critique = text_of({"prompt": request[0] if isinstance(request, list) and request else request}, "prompt")
    revision = text_of(words, "edit_request")
    return Principle(
        text_of(entry, "cst_key"),
        critique.removeprefix("\n\nCritiqueRequest: ").removesuffix("\n\nCritique:"),
        revision.removeprefix("\n\nRevisionRequest: ").removesuffix("\n\nRevision:"),
        None,
    )


def _several(row: Fields, key: str) -> list[Fields]:
    """The mappings in the list under `key`, at least one."""
    value = value_of(row, key)
    if not isinstance(value, list) or not value or not all(isinstance(item, Mapping) for item in value):
        raise ValueError(f"{key!r} must be a list of one or more objects, is {value!r:.60}")
    return value


def _only(row: Fields, key: str) -> Fields:
    """The one mapping in the list under `key`."""
    found = _several(row, key)
    if len(found) != 1:
        raise ValueError(f"{key!r} must be a list of one object, is {found!r:.60}")
    return found[0]


def _part(row: Any, key: str, place: str) -> Fields:
    if not isinstance(row, Mapping) or not isinstance(row.get(key), Mapping):
        raise ValueError(f"{place} must be an object with an object under {key!r}")
    part: Fields = row[key]
    return part


def _sample(row: Fields) -> str:
    return words(text_of(row, "sample"))
