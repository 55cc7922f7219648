"""What a rating says beside Elo, in words and tables: ties and what they count for, and where RL curves have peaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cai_lightning.report.markup import caption, percent, table
from cai_lightning.report.style import label

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


def peaks(variant: Mapping[str, Any]) -> str:
    """A table of where the Elo of each run of RL is highest, and whether it had surely been lower before and after."""
    rows = [
        [label(one["line"]), one["criterion"], one["at"], one["among"], "yes" if one["peaked"] else "not shown"]
        for one in peak_rows(variant)
    ]
    said = (
        "RL samples at which a curve is highest. May be highest: all points that no other one is surely above (one "
        "band for all pairs, 95 %). A curve has peaked where neither its first nor its last point is among them."
    )
    return table(["Peaks", "Criterion", "Highest at", "May be highest", "Peaked"], rows) + caption(said) if rows else ""


def peak_rows(variant: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """{"line", "criterion", "at", "among", "peaked"} of each curve; points are RL samples, the last one "end"."""
    for line, found in variant.get("peaks", {}).items():
        for axis, one in found.items():
            among = ", ".join(map(_point, one["among"]))
            yield {
                "line": line,
                "criterion": axis,
                "at": _point(one["at"]),
                "among": among,
                "peaked": one["peaked"],
            }


def _point(player: str) -> str:
    return player.rpartition("@")[2] if "@" in player else "end"
