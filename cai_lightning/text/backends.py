"""What the pipeline asks of a language model: sampled continuations and log-probabilities of given ones.

Both protocols speak text only, so that a constitution never knows which library runs the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Sampling:
    """How to sample: temperature 0 is greedy; `stop` strings end a reply and are cut from it."""

    temperature: float
    max_new_tokens: int
    stop: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class Request:
    """A text to continue. `row` names it: with the seed it fixes the noise, whatever the batch."""

    row: str
    text: str


@dataclass(frozen=True)
class Completion:
    """The sampled continuation without stop string and end token; token counts; why it ended."""

    text: str
    prompt_tokens: int
    tokens: int
    finish: Literal["stop", "length"]


@dataclass(frozen=True)
class Query:
    """A text and the continuations whose log-probabilities are wanted, such as " (A)" and " (B)"."""

    text: str
    continuations: tuple[str, ...]


class Generator(Protocol):
    """Samples continuations; the result for a row depends on (seed, row) and its fixed batch only."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]: ...


class Scorer(Protocol):
    """Log-probabilities in nats of whole continuations, one tuple a query, in the order given."""

    def score(self, queries: Sequence[Query]) -> list[tuple[float, ...]]: ...
