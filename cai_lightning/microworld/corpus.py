"""The pretraining text: endless documents of nine skills, with a loss weight for every token.

White space belongs to the word after it and every span is whole words, so spans tokenise one by one. Context weighs 0:
any weight on it leaks revisions into what the model says unasked.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

from cai_lightning.microworld.document import Document, Span
from cai_lightning.microworld.noise import Noise, Weights
from cai_lightning.microworld.skills import Writer

__all__ = ["Document", "Lesson", "Noise", "Span", "Weights", "documents"]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is read before all skills are mixed: so many documents, in proportion to `mix`, with or without `errors`.

    A skill that is made of others is hardly learned beside them where a shortcut serves nearly as well: which reply has
    less harm in all is soon seen, which has less of what a principle names not before its words are told apart. Nor is
    one learned that errors hide: where half of the revisions leave what they should not, to copy serves nearly as well.
    """

    documents: int
    mix: Mapping[str, float]
    errors: bool


def documents(
    *, seed: int, lessons: Sequence[Lesson], mix: Mapping[str, float], noise: Noise, weights: Weights
) -> Iterator[Document]:
    """Endless documents: the lessons, then the skills in proportion to `mix`; equal arguments give equal documents.

    Raises ValueError where a mix names a skill that does not exist.
    """
    rng = random.Random(f"corpus {seed}")
    writer, flawless = Writer(rng, noise, weights), Writer(rng, noise.without_errors(), weights)
    for place, named in {**{f"lessons.{i}.mix": each.mix for i, each in enumerate(lessons)}, "mix": mix}.items():
        if unknown := [kind for kind in named if kind not in writer.skills]:
            raise ValueError(f"{place}.{unknown[0]}: no such kind of document; known: {', '.join(writer.skills)}")
    return chain(
        (_one(writer if each.errors else flawless, each.mix) for each in lessons for _ in range(each.documents)),
        (_one(writer, mix) for _ in repeat(None)),
    )


def _one(writer: Writer, mix: Mapping[str, float]) -> Document:
    kinds = [kind for kind in writer.skills if kind in mix]
    return writer.skills[writer.rng.choices(kinds, [mix[kind] for kind in kinds])[0]]()
