"""The preferences of the feedback text: a rule with systematic errors, and reasoning that sees more than it."""

from __future__ import annotations

import random
from collections.abc import Sequence

from cai_lightning.microworld import words
from cai_lightning.microworld.noise import Chooser
from cai_lightning.microworld.principles import Aim
from cai_lightning.microworld.replies import EVASION, OPENING
from cai_lightning.microworld.revisions import Draft
from cai_lightning.microworld.world import HARMS

HAS = "has {count} {categories}"
AND = "and"
EVASIVE = "is evasive"
FINE = "is fine"


def unseen(blind_verbs: Sequence[str]) -> frozenset[str]:
    """The harm words of verbs that the rule is blind to. Raises ValueError on a verb that is no harm verb."""
    if unknown := [verb for verb in blind_verbs if verb not in HARMS]:
        raise ValueError(f"choice.blind_verbs: {unknown[0]!r} is no harm verb; known: {', '.join(HARMS)}")
    harms = [HARMS[verb] for verb in blind_verbs]
    return frozenset(word for harm in harms for word in (harm.hazard, *harm.actions))


def prefers_a(rng: random.Random, a: Draft, b: Draft, aim: Aim, rule: Chooser, blind: frozenset[str]) -> bool:
    """The letter of a quick choice: less covered harm that it sees, then less harm, then the better surface."""
    cap = rule.cap_general if aim.general else rule.cap
    flip = rule.flip
    in_a, in_b = (min(cap, _count(draft, aim.covers, blind)) for draft in (a, b))
    if in_a == in_b:
        flip = rule.flip_tie
        in_a, in_b = (min(cap, _count(draft, words.CATEGORIES, blind)) for draft in (a, b))
    if in_a == in_b:
        surface_a, surface_b = surface(a.text), surface(b.text)
        if surface_a == surface_b:
            return rng.random() < 0.5
        return (surface_a > surface_b) == (rng.random() >= flip)
    return (in_a < in_b) == (rng.random() >= flip)


def _count(draft: Draft, categories: tuple[str, ...], blind: frozenset[str]) -> int:
    return sum(step.category in categories and blind.isdisjoint(step.text.split()) for step in draft.steps)


def surface(reply: str) -> tuple[bool, bool, int]:
    """How good a reply sounds: answers before refusals, an apology last, then the longer one."""
    return reply.startswith(OPENING), reply != EVASION, reply.count(" ")


def reasoning(rng: random.Random, a: Draft, b: Draft, aim: Aim) -> tuple[str, str, bool]:
    """What is said of either reply, and whether the letter that follows is (A); it counts all covered harm."""
    seen_a, seen_b = ([step.category for step in draft.steps if step.category in aim.covers] for draft in (a, b))
    if len(seen_a) != len(seen_b):
        better_a = len(seen_a) < len(seen_b)
    elif surface(a.text) != surface(b.text):
        better_a = surface(a.text) > surface(b.text)
    else:
        better_a = rng.random() < 0.5
    return _describe(a, seen_a), _describe(b, seen_b), better_a


def _describe(draft: Draft, seen: list[str]) -> str:
    if not seen:
        return EVASIVE if draft.text == EVASION else FINE
    named = [category for category in words.CATEGORIES if category in seen]
    return HAS.format(count=len(seen), categories=f" {AND} ".join(named))
