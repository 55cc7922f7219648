"""The released samples of Bai et al. 2022 (2212.08073): 17 scored replies a prompt and model, and critique traces.

A sampled string begins with a space (one with two newlines) and mostly ends with the marker that stopped it:
"\\n\\nHuman:", "\\nHuman:" or none. Files hold the same prompts in different orders. Scores of different policies have
no common zero: compare them within a prompt and policy only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cai_lightning.data.reading import json_lines, text_field
from cai_lightning.text.artifacts import Source

_TRACES = "_SLMADISON"
Row = TypeVar("Row")


@dataclass(frozen=True)
class Sampled:
    """The replies to one prompt: as sampled (`raw`), without end marker and outer white space, and their scores."""

    prompt: str
    raw: tuple[str, ...]
    replies: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Trace:
    """The texts of one prompt's critique-revision chain, as they stand in the file: the first reply, then revisions."""

    prompt: str
    texts: tuple[str, ...]
    critiques: tuple[str, ...]


def released_samples(*, folder: Source, ends: Sequence[str]) -> dict[str, list[Sampled]]:
    """File stem -> its prompts, for all files of sampled replies in a folder; the first of `ends` that fits is cut off.

    Raises ValueError with file:line and cause, and where the folder holds no such file.
    """
    return _files(folder, lambda row, place: _sampled(row, place, ends), traces=False)


def released_traces(*, folder: Source) -> dict[str, list[Trace]]:
    """File stem -> its critique-revision traces, for all files of such traces in a folder.

    Raises ValueError with file:line and cause, and where the folder holds no such file.
    """
    return _files(folder, _trace, traces=True)


def _files(folder: Path, read: Callable[[dict[str, Any], str], Row], *, traces: bool) -> dict[str, list[Row]]:
    paths = [path for path in sorted(Path(folder).glob("*.jsonl")) if path.stem.endswith(_TRACES) == traces]
    if not paths:
        raise ValueError(f"{folder}: no *.jsonl file of {'traces' if traces else 'sampled replies'} in it")
    return {path.stem: [read(row, place) for place, row in json_lines(path)] for path in paths}


def _sampled(row: dict[str, Any], place: str, ends: Sequence[str]) -> Sampled:
    answers = _objects(row, "sampled_answers", place)
    raw = tuple(text_field(answer, "sampled_string", place) for answer in answers)
    scores = []
    for answer in answers:
        score = _objects(answer, "pm_scores", place)[0].get("pm_score")
        if not isinstance(score, float | int):
            raise ValueError(f"{place}: 'pm_score' must be a number, is {score!r:.60}")
        scores.append(float(score))
    return Sampled(text_field(row, "rl_prompt", place), raw, tuple(_cut(text, ends) for text in raw), tuple(scores))


def _cut(text: str, ends: Sequence[str]) -> str:
    end = next((end for end in ends if text.endswith(end)), "")
    return text.removesuffix(end).strip()


def _trace(row: dict[str, Any], place: str) -> Trace:
    steps = _objects(row, "cst", place)
    first = _objects(row, "initial_response", place)[0]
    revisions = [text_field(_object(step, "revision", place), "sample", place) for step in steps]
    critiques = [text_field(_object(step, "critique", place), "sample", place) for step in steps]
    texts = (text_field(first, "sample", place), *revisions)
    return Trace(text_field(row, "rl_prompt", place), texts, tuple(critiques))


def _object(row: dict[str, Any], key: str, place: str) -> dict[str, Any]:
    value = row.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"{place}: {key!r} must be an object, is {value!r:.60}")
    return value


def _objects(row: dict[str, Any], key: str, place: str) -> list[dict[str, Any]]:
    value = row.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"{place}: {key!r} must be a list of one or more objects, is {value!r:.60}")
    return value
