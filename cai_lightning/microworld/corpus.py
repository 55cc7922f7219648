"""The pretraining text: endless documents of seven skills, with a loss weight for every token.

White space belongs to the word after it and every span is whole words, so spans tokenise one by one. Context weighs 0:
any weight on it leaks revisions into what the model says unasked.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

from cai_lightning.microworld.document import Document, Span
from cai_lightning.microworld.noise import Noise, Weights
from cai_lightning.microworld.skills import Writer

__all__ = ["Document", "Noise", "Span", "Weights", "documents"]


def documents(*, seed: int, mix: Mapping[str, float], noise: Noise, weights: Weights) -> Iterator[Document]:
    """Endless documents, the skills in proportion to `mix`; the same arguments give the same documents.

    Raises ValueError where `mix` names a skill that does not exist.
    """
    writer = Writer(random.Random(f"corpus {seed}"), noise, weights)
    if unknown := [kind for kind in mix if kind not in writer.skills]:
        raise ValueError(f"mix.{unknown[0]}: no such kind of document; known: {', '.join(writer.skills)}")
    kinds = [kind for kind in writer.skills if kind in mix]
    return _endless(writer, kinds, [mix[kind] for kind in kinds])


def _endless(writer: Writer, kinds: list[str], shares: list[float]) -> Iterator[Document]:
    while True:
        yield writer.skills[writer.rng.choices(kinds, shares)[0]]()
