"""Some principles of a constitution: how many there are, and how many words they cover, as an axis of experiments."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

from cai_lightning.constitution.principles import Constitution, Principle, ticket

Pick = Callable[[Sequence[Principle], int, int], list[Principle]]


def subset(*, whole: Constitution, count: int, pick: Pick, seed: int) -> Constitution:
    """The constitution with `count` of its principles, in their own order, chosen by `pick`.

    Raises ValueError where there are not so many.
    """
    if not 1 <= count <= len(whole.principles):
        raise ValueError(f"count: is {count}; the constitution {whole.name!r} has {len(whole.principles)} principles")
    chosen = {principle.id for principle in pick(whole.principles, count, seed)}
    kept = tuple(principle for principle in whole.principles if principle.id in chosen)
    return dataclasses.replace(whole, name=f"{whole.name}, {count} of {len(whole.principles)}", principles=kept)


def without(*, whole: Constitution, id: str | None) -> Constitution:
    """The constitution without the principle named `id`; null leaves none out.

    Raises ValueError where there is no such principle, or nothing else is left to revise or to compare by.
    """
    if id is None:
        return whole
    kept = tuple(principle for principle in whole.principles if principle.id != id)
    if len(kept) == len(whole.principles):
        raise ValueError(f"without: {id!r} is none of the principles of {whole.name!r}")
    found = dataclasses.replace(whole, name=f"{whole.name} without {id}", principles=kept)
    if not found.revising or not found.comparing:
        raise ValueError(
            f"without: {whole.name!r} has no other principle that {'compares' if found.revising else 'revises'}"
        )
    return found


def drawn(principles: Sequence[Principle], count: int, seed: int) -> list[Principle]:
    """`count` principles at random; those of a smaller count are among those of a larger one."""
    return sorted(principles, key=lambda principle: ticket("subset", seed, principle.id))[:count]


def wide(principles: Sequence[Principle], count: int, seed: int) -> list[Principle]:
    """`count` principles one after the other, each the one that adds most words; the first, and ties, at random."""
    return _greedy(principles, count, seed, sign=-1)


def narrow(principles: Sequence[Principle], count: int, seed: int) -> list[Principle]:
    """`count` principles one after the other, each the one that adds fewest words; the first, and ties, at random."""
    return _greedy(principles, count, seed, sign=1)


def _greedy(principles: Sequence[Principle], count: int, seed: int, *, sign: int) -> list[Principle]:
    rest = drawn(principles, len(principles), seed)
    chosen, known = [rest.pop(0)], set[str]()
    while len(chosen) < count:
        known |= words(chosen[-1])
        chosen.append(min(rest, key=lambda principle: sign * len(words(principle) - known)))
        rest.remove(chosen[-1])
    return chosen


def words(principle: Principle) -> set[str]:
    """The words of a principle's wordings, in lower case."""
    text = " ".join(text for text in (principle.critique, principle.revision, principle.comparison) if text)
    return set(re.findall(r"\w+", text.lower()))
