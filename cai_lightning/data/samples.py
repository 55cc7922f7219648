"""The paper's released samples, file by file: what its policies replied to each prompt, and their chains of revision.

Files hold the same prompts in different orders. Scores of different policies have no common zero: compare them within a
prompt and policy only. What a row holds, `released` says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cai_lightning.data import released
from cai_lightning.data.reading import Fields, usable
from cai_lightning.data.tables import file_table
from cai_lightning.text.artifacts import Source

_TRACES = "_SLMADISON"
Row = TypeVar("Row")


@dataclass(frozen=True)
class Sampled:
    """The replies to one prompt, the best first: as sampled (`raw`), without end marker, and their scores."""

    raw: tuple[str, ...]
    replies: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Trace:
    """The texts of one prompt's chain: the first reply, then its revisions."""

    texts: tuple[str, ...]


def released_samples(*, folder: Source) -> dict[str, list[Sampled]]:
    """File stem -> its prompts, for all files of sampled replies in a folder.

    Raises ValueError with file:line and cause, and where the folder holds no such file.
    """
    return _files(folder, _sampled, traces=False)


def released_traces(*, folder: Source) -> dict[str, list[Trace]]:
    """File stem -> its critique-revision traces, for all files of such traces in a folder.

    Raises ValueError with file:line and cause, and where the folder holds no such file.
    """
    return _files(folder, _trace, traces=True)


def _files(folder: Path, make: Callable[[Fields], Row], *, traces: bool) -> dict[str, list[Row]]:
    paths = [path for path in sorted(Path(folder).glob("*.jsonl")) if path.stem.endswith(_TRACES) == traces]
    if not paths:
        raise ValueError(f"{folder}: no *.jsonl file of {'traces' if traces else 'sampled replies'} in it")
    return {path.stem: _rows(path, make) for path in paths}


def _rows(path: Path, make: Callable[[Fields], Row]) -> list[Row]:
    return list(usable(file_table(path=path, pattern=None), make, skip_bad=False, dropped=Counter(), skipped=[]))


def _sampled(row: Fields) -> Sampled:
    raw, scores = zip(*released.answers(row), strict=True)
    return Sampled(raw, tuple(map(released.words, raw)), scores)


def _trace(row: Fields) -> Trace:
    _, steps = released.trace(row)
    return Trace((steps[0].previous, *(step.text for step in steps)))
