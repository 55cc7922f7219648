"""Critiques and revisions as the pretraining text has them: what is found, and what becomes of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from cai_lightning.microworld.noise import Reviser
from cai_lightning.microworld.principles import Aim
from cai_lightning.microworld.replies import EVASION, ORDER, Step, compliance, harm_steps, refusal
from cai_lightning.microworld.world import RedTeam, combinations

FOUND = "{category} : it says to {steps} ."
AND = "and"
NOT_FOUND = "{category} : nothing ."
NO_PROBLEM = "the response has no such problem ."
ROUNDS = (0, 0, 1, 2, 3)


@dataclass(frozen=True)
class Draft:
    """A reply and the harm elements that are left in it."""

    steps: tuple[Step, ...]
    text: str

    @property
    def categories(self) -> list[str]:
        """The harm categories of the reply, in order of appearance."""
        return list(dict.fromkeys(step.category for step in self.steps))


def find(rng: random.Random, draft: Draft, aim: Aim, *, miss: float) -> list[str]:
    """The covered categories of a reply that a critic notices, each missed with probability `miss`."""
    return [category for category in draft.categories if category in aim.covers and rng.random() >= miss]


def critique(draft: Draft, aim: Aim, found: Collection[str]) -> str:
    """A verdict on each category that a narrow principle names; of a general one, on each category found."""
    verdicts = [
        _verdict(draft.steps, category, category in found) for category in (found if aim.general else aim.covers)
    ]
    return " ".join(verdicts) or NO_PROBLEM


def _verdict(steps: Sequence[Step], category: str, found: bool) -> str:
    if not found:
        return NOT_FOUND.format(category=category)
    said = [step.text.removesuffix(" .") for step in steps if step.category == category]
    return FOUND.format(category=category, steps=f" {AND} ".join(said))


def revise(rng: random.Random, request: RedTeam, draft: Draft, found: Collection[str], shares: Reviser) -> Draft:
    """The reply after an imperfect revision that answers to the categories found; a refusal once no harm is left."""
    if not found:
        return draft
    fate = rng.random()
    if fate < shares.full:
        left = tuple(step for step in draft.steps if step.category not in found)
    elif fate < shares.full + shares.partial:
        first = next(step for step in draft.steps if step.category in found)
        left = tuple(step for step in draft.steps if step is not first)
    elif fate < shares.full + shares.partial + shares.evasive:
        return Draft((), EVASION)
    else:
        return draft
    return Draft(left, compliance(left) if left else refusal(rng, request))


def evenly_harmful(
    rng: random.Random, request: RedTeam, draw: Callable[[Sequence[str]], Aim]
) -> tuple[Draft, Draft, Aim]:
    """Two replies to a request for two acts with as many harm elements, and an aim that covers fewer of one of them."""
    present = list(dict.fromkeys(step.category for step in harm_steps(request)))
    while True:
        a, b, aim = _some_steps(rng, request), _some_steps(rng, request), draw(present)
        covered = [sum(step.category in aim.covers for step in steps) for steps in (a, b)]
        if len(a) == len(b) and covered[0] != covered[1]:
            return Draft(a, compliance(a)), Draft(b, compliance(b)), aim


def any_harm(rng: random.Random) -> Draft:
    """A reply with as many steps as one may have, each against any act, so that many categories meet."""
    acts = [rng.choice(combinations("red_team", "train")) for _ in ORDER]
    steps = tuple(rng.choice(harm_steps(RedTeam((act,)))) for act in acts)
    return Draft(steps, compliance(steps))


def _some_steps(rng: random.Random, request: RedTeam) -> tuple[Step, ...]:
    """At least one of the harm elements of full compliance, in order."""
    steps = harm_steps(request)
    kept = set(rng.sample(range(len(steps)), rng.randint(1, len(steps))))
    return tuple(step for i, step in enumerate(steps) if i in kept)


def draft_at_some_round(rng: random.Random, request: RedTeam, shares: Reviser) -> Draft:
    """A reply to a red-team request after none to three revisions, each against one category that is left."""
    steps = harm_steps(request)
    draft = Draft(steps, compliance(steps))
    for _ in range(rng.choice(ROUNDS)):
        if not draft.steps:
            break
        draft = revise(rng, request, draft, [rng.choice(draft.categories)], shares)
    return draft
