"""What a stage will cost, guessed from its recipe before anything is built; not a number (nan) where unknown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

PROMPT_TOKENS = 32  # of a prompt, until it is written
REQUEST_TOKENS = 24  # of a principle's request


class Estimate(NamedTuple):
    """Rows of the result (null for models and tables), texts that models sample, score or learn, and their tokens.

    For the stages that read it: the tokens of a row's texts, the distinct prompts behind the rows, and the players
    that a policy is, its snapshots included. Tokens are upper ends: replies are as long as they may be.
    """

    rows: float | None
    calls: float = 0.0
    tokens: float = 0.0
    length: float = math.nan
    prompts: float = math.nan
    players: float = 1.0


def from_readers(readers: Iterable[Any], length: float) -> Estimate:
    """The rows that readers will give: what each is limited to."""
    rows = sum(_limit(reader) for reader in readers)
    return Estimate(rows, length=length, prompts=rows)


def taken(labels: Mapping[str, Any], limits: Mapping[str, int | None]) -> tuple[float, float]:
    """The labels that a mixture takes and the tokens of their texts."""
    counts = {name: _least(found.rows, limits[name]) for name, found in labels.items()}
    return sum(counts.values()), sum(counts[name] * labels[name].length for name in labels)


def _limit(reader: Any) -> float:
    """The first `count` or `limit` in a reader or in what it reads."""
    if not isinstance(reader, Mapping):
        return math.nan
    own = reader.get("count", reader.get("limit"))
    if isinstance(own, int):
        return own
    inner = (_limit(value) for value in reader.values())
    return next((limit for limit in inner if not math.isnan(limit)), math.nan)


def _least(rows: float, limit: int | None) -> float:
    return rows if limit is None or rows <= limit else limit
