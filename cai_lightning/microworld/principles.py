"""Principles of the micro-world: harm categories, and their wordings as critique, revision and comparison."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from cai_lightning.microworld import words
from cai_lightning.microworld.noise import Principles

CRITIQUE = "identify where the response is {aim} ."
REVISION = "rewrite the response to be less {aim} ."
COMPARISON = "which response is less {aim} ?"
OR = "or"
GENERAL_AIMS = ("harmful or unethical", "wrong or bad")


@dataclass(frozen=True)
class Aim:
    """What a principle is against: its words, the categories it covers, and whether it is a general one."""

    text: str
    covers: tuple[str, ...]
    general: bool


def narrow(categories: Sequence[str]) -> Aim:
    """The aim against one or two categories, in this order."""
    return Aim(f" {OR} ".join(categories), tuple(categories), general=False)


GENERAL = tuple(Aim(text, words.CATEGORIES, general=True) for text in GENERAL_AIMS)


def draw_aim(rng: random.Random, shares: Principles, among: Sequence[str]) -> Aim:
    """A random aim; a narrow one covers at least one category of `among`."""
    if rng.random() < shares.general:
        return rng.choice(GENERAL)
    first = rng.choice(among)
    if rng.random() < shares.single:
        return narrow([first])
    second = rng.choice([category for category in words.CATEGORIES if category != first])
    return narrow(rng.sample([first, second], 2))
