"""Which words of a training text decide: the loss weight of piece `i` among the pieces of what is said."""

from __future__ import annotations

from collections.abc import Sequence

from cai_lightning.microworld import replies
from cai_lightning.microworld.noise import Weights


def in_reply(weights: Weights, parts: Sequence[str], i: int) -> float:
    """Of a first reply: whom it is for, or a target."""
    return weights.person if i and parts[i - 1] == " your" else 1.0


def in_critique(weights: Weights, parts: Sequence[str], i: int) -> float:
    """Of a critique: its first word, and what says which step has the harm."""
    return weights.verdict if i == 0 or parts[i - 1] in (" :", " to", " the", " and") else 1.0


def in_revision(weights: Weights, parts: Sequence[str], i: int) -> float:
    """Of a revision: its first word, the words that open or end a step, and those that tell it from another."""
    if i == 0:
        return weights.revision_first
    if parts[i][1:] in replies.ORDER:
        return weights.revision_order
    after_order = i >= 2 and parts[i - 2][1:] in replies.ORDER
    hazard = i >= 4 and parts[i - 4][1:] in replies.ORDER and parts[i - 1] == " the"
    return weights.revision_step if after_order or hazard else 1.0
