"""What a rating rests on, in words and tables: how many verdicts are ties, and what a tie counts for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cai_lightning.report.markup import caption, percent

HALF, OUTCOME = "half a win", "an outcome of its own"


def tie_words(variant: Mapping[str, Any]) -> str:
    """What a tie counts for in a variant of ratings.json."""
    return OUTCOME if "davidson" in variant else HALF


def tie_warnings(variant: Mapping[str, Any], most: float) -> list[str]:
    """A line for every axis that has a larger share of ties than `most` and counts them as half-wins."""
    if tie_words(variant) != HALF:
        return []
    return [
        f"{percent(share)} % of the verdicts on {axis} are ties, more than {percent(most)} %, and each counts as "
        f"half a win, which draws Elo towards each other: rate with stage/ratings@stages.ratings=davidson"
        for axis, share in variant.get("ties", {}).items()
        if share > most
    ]


def ties(variant: Mapping[str, Any]) -> str:
    """A line below the players: the share of ties on every axis, and what a tie counts for; nothing without shares."""
    shares = ", ".join(f"{axis} {percent(share)} %" for axis, share in variant.get("ties", {}).items())
    equals = ", ".join(f"{axis} {percent(one['value'])} %" for axis, one in variant.get("davidson", {}).items())
    between = f" Players of equal strength would tie in: {equals}." if equals else ""
    return caption(f"Ties among verdicts: {shares}. A tie is {tie_words(variant)}.{between}" if shares else "")
