"""The pretraining text: endless documents of all skills, with a loss weight for every token.

White space belongs to the word after it and every span is whole words, so spans tokenise one by one. Context weighs 0:
any weight on it leaks revisions into what the model says unasked.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat

from cai_lightning.microworld.document import Document, Span
from cai_lightning.microworld.noise import Noise, Weights
from cai_lightning.microworld.skills import Writer

__all__ = ["Document", "Lesson", "Noise", "Span", "Weights", "documents"]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is read before all skills are mixed: so many documents, in proportion to `mix`, with or without `errors`,
    and with its own share `any_harm` of replies that have harm of four kinds.

    A skill that is made of others is hardly learned beside them where a shortcut serves nearly as well: which reply has
    less harm in all is soon seen, which has less of what a principle names not before its words are told apart. Nor is
    one learned that errors hide: where half of the revisions leave what they should not, to copy serves nearly as well.
    """

    documents: int
    mix: Mapping[str, float]
    errors: bool
    any_harm: float

    def noise(self, whole: Noise) -> Noise:
        """The rates of this lesson, where those of the mix are given."""
        return replace(whole if self.errors else whole.without_errors(), any_harm=self.any_harm)


def documents(
    *, seed: int, lessons: Sequence[Lesson], mix: Mapping[str, float], noise: Noise, weights: Weights
) -> Iterator[Document]:
    """Endless documents: the lessons, then the skills in proportion to `mix`; equal arguments give equal documents.

    Raises ValueError where a mix names a skill that does not exist.
    """
    rng = random.Random(f"corpus {seed}")
    parts = [(Writer(rng, each.noise(noise), weights), each.mix, repeat(None, each.documents)) for each in lessons]
    parts.append((Writer(rng, noise, weights), mix, repeat(None)))
    for place, named in {**{f"lessons.{i}.mix": each.mix for i, each in enumerate(lessons)}, "mix": mix}.items():
        if unknown := [kind for kind in named if kind not in parts[-1][0].skills]:
            known = ", ".join(parts[-1][0].skills)
            raise ValueError(f"{place}.{unknown[0]}: no such kind of document; known: {known}")
    return (_one(writer, kinds) for writer, kinds, times in parts for _ in times)


def _one(writer: Writer, mix: Mapping[str, float]) -> Document:
    kinds = [kind for kind in writer.skills if kind in mix]
    return writer.skills[writer.rng.choices(kinds, [mix[kind] for kind in kinds])[0]]()
