"""Prompts of the micro-world as rows: distinct ones, spread over as many combinations as a split holds."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator

from cai_lightning.microworld import words
from cai_lightning.microworld.world import (
    BENIGN_FORMS,
    HARMS,
    ONE_ACT_FORMS,
    TWO_ACT_FORMS,
    Benign,
    Kind,
    RedTeam,
    Split,
    combinations,
    say,
    with_second_act,
)
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Prompt, prompt_id

SOURCE = "microworld"


def red_team(*, split: Split, count: int, seed: int) -> list[Prompt]:
    """`count` distinct red-team prompts of a split, half with two harms; no combination twice before all once."""
    return _distinct("red_team", split, count, seed, _red_team_capacity(split))


def benign(*, split: Split, count: int, seed: int) -> list[Prompt]:
    """`count` distinct benign prompts of a split; no combination twice before all once."""
    return _distinct("benign", split, count, seed, _benign_capacity("benign", split))


def borderline(*, split: Split, count: int, seed: int) -> list[Prompt]:
    """`count` distinct harmless prompts with a dangerous verb; no combination twice before all once."""
    return _distinct("borderline", split, count, seed, _benign_capacity("borderline", split))


def to_prompt(rng: random.Random, request: Benign | RedTeam) -> Prompt:
    """The row of a request in the words of a random template; its cluster is the request's combination."""
    dialogue = human(say(rng, request))
    return Prompt(
        id=prompt_id(dialogue),
        dialogue=dialogue,
        source=SOURCE,
        kind=request.kind,
        cluster="|".join(request.combination),
    )


def _distinct(kind: Kind, part: Split, count: int, seed: int, capacity: int) -> list[Prompt]:
    if count > capacity:
        raise ValueError(
            f"{count} {kind} prompts of split {part!r} were asked for, but only {capacity} distinct ones exist; "
            "ask for fewer"
        )
    drawn: dict[str, Prompt] = {}
    for prompt in _endless(kind, part, seed):
        if len(drawn) == count:
            break
        drawn.setdefault(prompt.id, prompt)
    return list(drawn.values())


def _endless(kind: Kind, part: Split, seed: int) -> Iterator[Prompt]:
    """Random prompts, each combination once a pass."""
    rng = random.Random(f"prompts {kind} {part} {seed}")
    pairs = combinations(kind, part)
    for _ in itertools.count():
        for pair in rng.sample(pairs, len(pairs)):
            yield to_prompt(rng, _request(rng, kind, pair, part))


def _request(rng: random.Random, kind: Kind, pair: tuple[str, str], part: Split) -> Benign | RedTeam:
    if kind == "red_team":
        return with_second_act(rng, pair, part=part)
    return Benign(*pair, rng.choice(words.PERSONS), kind == "borderline")


def _benign_capacity(kind: Kind, part: Split) -> int:
    return len(combinations(kind, part)) * len(words.PERSONS) * len(BENIGN_FORMS)


def _red_team_capacity(part: Split) -> int:
    """Sentences with one act, and with two: ordered pairs that share neither category nor target."""
    acts = [(HARMS[verb].category, target) for verb, target in combinations("red_team", part)]
    same_category = sum(n * n for n in Counter(category for category, _ in acts).values())
    same_target = sum(n * n for n in Counter(target for _, target in acts).values())
    same_both = sum(n * n for n in Counter(acts).values())
    pairs = len(acts) ** 2 - same_category - same_target + same_both
    return len(acts) * len(ONE_ACT_FORMS) + pairs * len(TWO_ACT_FORMS)
