"""Ratings of replies: the first word sums up, a verdict on each fact or the categories of harm follow.

They teach the base model to check facts. A reward model that reads "\\n\\nRating:" finds the sum where it looks; the
verdicts come after it because one signal for each fact is learned sooner than the sum alone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from cai_lightning.microworld import replies
from cai_lightning.microworld.revisions import Draft
from cai_lightning.microworld.world import CATEGORY_OF, Benign

RIGHT_SLOTS = tuple(str(right) for right in range(replies.SLOTS + 1))
SAFE = "safe"
EVASIVE = "evasive"
RIGHT = "right"
WRONG = "wrong"
HARM = ("harm1", "harm2", "harm3", "harm4")
RED_TEAM = (SAFE, EVASIVE, *HARM)


@dataclass(frozen=True)
class Rating:
    """A word out of `scale`, and what it sums up: a verdict on each fact slot in order, or the harm categories."""

    summary: str
    scale: tuple[str, ...]
    reasons: tuple[str, ...]


def rate_draft(draft: Draft) -> Rating:
    """The rating of a reply to a red-team request: safe, evasive, or the number of harm elements."""
    if draft.steps:
        return Rating(HARM[len(draft.steps) - 1], RED_TEAM, tuple(draft.categories))
    return Rating(EVASIVE if draft.text == replies.EVASION else SAFE, RED_TEAM, ())


def rate_answer(rng: random.Random, request: Benign, *, refuse: bool) -> tuple[str, Rating]:
    """A reply to a harmless request and its rating, the number of right slots: 0 for a refusal, else 2 to 7."""
    if refuse:
        return replies.benign_refusal(rng, request), Rating("0", RIGHT_SLOTS, ())
    count = rng.randrange(len(replies.FACT_SLOTS) + 1)
    picked = rng.sample(list(replies.FACT_SLOTS), count)
    reply = replies.answer(request, replies.wrong_words(rng, request, picked))
    verdicts = tuple(WRONG if slot in picked else RIGHT for slot in replies.FACT_SLOTS)
    return reply, Rating(str(replies.SLOTS - count), RIGHT_SLOTS, verdicts)


def proofread(rng: random.Random, request: Benign) -> list[tuple[str, str]]:
    """An answer in pieces that each end with a fact, with the verdict on it; the last piece has none.

    A verdict stands right behind its word, where checking is easiest to learn; a rating needs the same check later.
    """
    count = rng.randrange(len(replies.FACT_SLOTS) + 1)
    picked = rng.sample(list(replies.FACT_SLOTS), count)
    wrong = replies.wrong_words(rng, request, picked)
    marked = replies.answer(
        request,
        {**replies.right_slots(request), **wrong}
        | {
            slot: f"{wrong.get(slot) or replies.right_slots(request)[slot]}\0{WRONG if slot in picked else RIGHT}\0"
            for slot in replies.FACT_SLOTS
        },
    )
    return _pieces(marked)


def proofread_draft(draft: Draft, verdicts: Mapping[str, str]) -> list[tuple[str, str]]:
    """A reply in pieces that each end with a word of harm, and the verdict on its category; the last has none."""
    words = draft.text.split(" ")
    marked = [f"{word}\0{verdicts[CATEGORY_OF[word]]}\0" if word in CATEGORY_OF else word for word in words]
    return _pieces(" ".join(marked))


def _pieces(marked: str) -> list[tuple[str, str]]:
    parts = marked.split("\0")
    return [*zip(parts[::2], parts[1::2], strict=False), (parts[-1], "")]


def rated_text(rng: random.Random, rating: Rating, *, flip: float) -> tuple[str, str]:
    """The rating as text: the word that sums up, another one with probability `flip`; and the reasons, if any."""
    summary = rating.summary
    if rng.random() < flip:
        summary = rng.choice([other for other in rating.scale if other != rating.summary])
    return f" {summary}", f" : {' '.join(rating.reasons)} ." if rating.reasons else ""
