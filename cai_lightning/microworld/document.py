"""A training document: text in spans, with a loss weight for each token, and the marks that the formats share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

CRITIQUE_REQUEST = "\n\nCritiqueRequest: {principle}\n\nCritique:"
REVISION_MARK = "\n\nRevisionRequest:"
REVISION_REQUEST = " {principle}\n\nRevision:"
CONSIDER = "\n\nConsider:{conversation}\n\n{principle}\n(A) {a}\n(B) {b}"
ANSWER_MARK = "\n\nThe answer is:"
THOUGHTS_MARK = "\n\nThoughts:"
RATING_MARK = "\n\nRating:"
PROOF_MARK = "\n\nProof:"
LETTERS = (" (A)", " (B)")
_PIECE = re.compile(r"\s*\S+")


@dataclass(frozen=True)
class Span:
    """Whole pieces of text and the loss weight of each of them."""

    text: str
    weight: float


@dataclass(frozen=True)
class Document:
    """Spans to be read one after the other, and the loss weight of the end token after them; `kind` is the skill."""

    kind: str
    spans: tuple[Span, ...]
    end_weight: float

    @property
    def text(self) -> str:
        """The whole text, without end token."""
        return "".join(span.text for span in self.spans)


def pieces(text: str) -> list[str]:
    """The text cut before each run of white space: what the tokenizer has an entry for."""
    return _PIECE.findall(text)


def weigh(text: str, weight_at: Callable[[Sequence[str], int], float]) -> list[Span]:
    """The text in spans, each piece with the weight that its place among the pieces asks for."""
    parts = pieces(text)
    return [Span(part, weight_at(parts, i)) for i, part in enumerate(parts)]
