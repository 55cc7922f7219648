"""What the pipeline asks of a language model: sampled continuations and log-probabilities of given ones.

Both protocols speak text and dialogues only, so that a constitution never knows which library runs the model, nor how
it writes a dialogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from cai_lightning.text.dialogue import Dialogue

Prompt = str | Dialogue
"""What a model is to go on from. A text is read as it stands. A dialogue is written in the model's own format: after a
human turn the next assistant turn is opened, a last assistant turn is gone on with.
"""


@dataclass(frozen=True)
class Sampling:
    """How to sample: temperature 0 is greedy; `stop` strings end a reply and are cut from it."""

    temperature: float
    max_new_tokens: int
    stop: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class Request:
    """A prompt to continue. `row` names it: with the seed it fixes the noise, whatever the batch.

    A `temperature` and `max_new_tokens` of its own stand in place of the sampling's.
    """

    row: str
    prompt: Prompt
    temperature: float | None = None
    max_new_tokens: int | None = None


@dataclass(frozen=True)
class Completion:
    """The sampled continuation without leading space, stop string and end token; token counts; why it ended."""

    text: str
    prompt_tokens: int
    tokens: int
    finish: Literal["stop", "length"]


@dataclass(frozen=True)
class Query:
    """A prompt and the continuations whose log-probabilities are wanted, such as " (A)" and " (B)".

    Where the prompt opens a new turn, the one space before a continuation is whatever the model's format has there.
    """

    prompt: Prompt
    continuations: tuple[str, ...]


class Generator(Protocol):
    """Samples continuations; the result for a row depends on (seed, row) and its fixed batch only."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]: ...


class Scorer(Protocol):
    """Log-probabilities in nats of whole continuations, one tuple a query, in the order given."""

    def score(self, queries: Sequence[Query]) -> list[tuple[float, ...]]: ...
