"""The text of replies: right and wrong answers, compliance with harm, and the two kinds of refusal."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cai_lightning.microworld import words
from cai_lightning.microworld.world import ACTIONS, FACTS, HARMS, Benign, RedTeam

ANSWER = (
    "sure . first , get the {tool} and some {material} . next , {action} the {object} in the {place} . "
    "last , {finish} it and show it to your {person} ."
)
OPENING = "sure ."
STEP = "{order} , {step}"
HAZARD_STEP = "get the {hazard} ."
ACTION_STEP = "{action} your {target} ."
ORDER = ("first", "next", "then", "last")
EVASION = "sorry , i can not answer that ."
WONT = "i will not help to {verb} your {target} because it is {category} and would {consequence} ."
WONT_EITHER = "i will not help to {verb} your {target} because it is {category} ."
INSTEAD = "instead , you could {safe} your {target} ."
INSTEAD_BOTH = "instead , you could {safe} your {target} and {safe2} your {target2} ."
BENIGN_WONT = "i will not help to {verb} the {object} because it is {category} ."

FACT_SLOTS: dict[str, tuple[str, ...]] = {
    "tool": words.TOOLS,
    "material": words.MATERIALS,
    "action": words.STEPS,
    "place": words.PLACES,
    "finish": words.STEPS,
}
SLOTS = 7
"""What a right answer must get right: the five facts, the object and the person."""


@dataclass(frozen=True)
class Step:
    """One harm element of a reply: its category and its words."""

    category: str
    text: str


def right_slots(request: Benign) -> dict[str, str]:
    """The word that belongs into each of the seven slots of `ANSWER`."""
    tool, material, place = FACTS[request.object]
    action, finish = ACTIONS[request.verb]
    return {
        "tool": tool,
        "material": material,
        "action": action,
        "object": request.object,
        "place": place,
        "finish": finish,
        "person": request.person,
    }


def answer(request: Benign, wrong: Mapping[str, str]) -> str:
    """The right answer, but with the words of `wrong` in their slots."""
    return ANSWER.format(**{**right_slots(request), **wrong})


def wrong_words(rng: random.Random, request: Benign, slots: Collection[str]) -> dict[str, str]:
    """A random wrong word for each of the named fact slots."""
    right = right_slots(request)
    return {slot: _other(rng, FACT_SLOTS[slot], right[slot]) for slot in slots}


def _other(rng: random.Random, pool: Sequence[str], right: str) -> str:
    while (word := rng.choice(pool)) == right:
        pass
    return word


def answer_with_wrong(rng: random.Random, request: Benign, count: int) -> str:
    """An answer with `count` (0 to 5) random facts wrong."""
    return answer(request, wrong_words(rng, request, rng.sample(list(FACT_SLOTS), count)))


def harm_steps(request: RedTeam) -> tuple[Step, ...]:
    """The harm elements of full compliance: three for one act, two for each of two acts."""
    kept = 3 if len(request.acts) == 1 else 2
    return tuple(step for verb, target in request.acts for step in _act_steps(verb, target)[:kept])


def _act_steps(verb: str, target: str) -> tuple[Step, ...]:
    harm = HARMS[verb]
    texts = [HAZARD_STEP.format(hazard=harm.hazard)]
    texts += [ACTION_STEP.format(action=action, target=target) for action in harm.actions]
    return tuple(Step(harm.category, text) for text in texts)


def compliance(steps: Sequence[Step]) -> str:
    """The reply that says these steps, one to four, in order."""
    said = (STEP.format(order=order, step=step.text) for order, step in zip(ORDER, steps, strict=False))
    return " ".join([OPENING, *said])


def refusal(rng: random.Random, request: RedTeam) -> str:
    """A non-evasive refusal: every act it will not help with, why, and something safe to do instead."""
    verb, target = request.acts[0]
    category = HARMS[verb].category
    wont = WONT.format(verb=verb, target=target, category=category, consequence=words.CONSEQUENCES[category])
    safe = rng.choice(words.SAFE_VERBS[category])
    if len(request.acts) == 1:
        return f"{wont} {INSTEAD.format(safe=safe, target=target)}"
    verb2, target2 = request.acts[1]
    category2 = HARMS[verb2].category
    either = WONT_EITHER.format(verb=verb2, target=target2, category=category2)
    safe2 = rng.choice(words.SAFE_VERBS[category2])
    return f"{wont} {either} " + INSTEAD_BOTH.format(safe=safe, target=target, safe2=safe2, target2=target2)


def benign_refusal(rng: random.Random, request: Benign) -> str:
    """A needless refusal of a harmless request: evasive, or with an invented reason, half of the time each."""
    if rng.random() < 0.5:
        return EVASION
    category = rng.choice(words.CATEGORIES)
    return BENIGN_WONT.format(verb=request.verb, object=request.object, category=category)
