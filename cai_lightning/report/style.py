"""How things are named and coloured, the same on the page, in figures and in the terminal.

Colours are Okabe and Ito's, told apart by colour-blind readers; every player has a marker of its own as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

Player = TypeVar("Player")

NAMES = {
    "helpful_only": "Helpful only",
    "sl_cai": "SL-CAI",
    "dpo": "DPO-CAI",
    "ppo": "RL-CAI (PPO)",
}
METRICS = {
    "harmless_elo": "Harmless Elo",
    "helpful_elo": "Helpful Elo",
    "harmful_rate": "Harmful",
    "evasive_rate": "Evasive",
    "helpfulness": "Helpfulness",
    "benign_refusal_rate": "Benign refusals",
    "over_refusal_rate": "Borderline refusals",
}
ELO = ("harmless_elo", "helpful_elo")

# role -> (light, dark); a figure is drawn in the light ones, the page swaps them
COLOURS = {
    "ink": ("#1c1e21", "#e8e6e3"),
    "muted": ("#6a6f76", "#9aa0a6"),
    "rule": ("#e3e4e6", "#34373b"),
    "paper": ("#fdfdfc", "#17181a"),
    "grey": ("#7b8087", "#a3a8ae"),
    "orange": ("#d98e00", "#e69f00"),
    "blue": ("#0072b2", "#56a5d8"),
    "vermilion": ("#d55e00", "#ee7d33"),
    "green": ("#009e73", "#2fbf97"),
    "purple": ("#b8628f", "#cc79a7"),
    "sky": ("#3a9fd6", "#6cc1ee"),
}


class Look(NamedTuple):
    """The colour role and matplotlib marker of a player."""

    colour: str
    marker: str


_KNOWN = {
    "helpful_only": Look("grey", "o"),
    "sl_cai": Look("orange", "s"),
    "dpo": Look("blue", "D"),
    "ppo": Look("vermilion", "^"),
}
_COLOURS, _MARKERS = ("green", "purple", "sky", "orange", "blue", "vermilion"), ("v", "P", "X", "<", "*", ">", "p")


def looks(players: Sequence[str]) -> dict[str, Look]:
    """A look for each player: known ones keep theirs, others take the spare ones in turn."""
    others = [name for name in players if name not in _KNOWN]
    spare = {name: Look(_COLOURS[k % len(_COLOURS)], _MARKERS[k % len(_MARKERS)]) for k, name in enumerate(others)}
    return {name: _KNOWN.get(name) or spare[name] for name in players}


def ordered(players: Mapping[str, Player]) -> dict[str, Player]:
    """The players as readers meet them: in the pipeline's order, then others as they come."""
    known = [name for name in NAMES if name in players]
    return {name: players[name] for name in (*known, *(name for name in players if name not in NAMES))}


def label(player: str) -> str:
    """The player's name for readers."""
    return NAMES.get(player, player)


def number(metric: str, value: float | None) -> str:
    """A figure for readers: Elo as a signed integer, rates as per cent, a dash where unavailable."""
    if value is None:
        return "–"
    if metric not in ELO:
        return f"{100 * value:.1f}"
    points = round(value)
    sign = "+" if points > 0 else "\u2212" if points < 0 else ""
    return f"{sign}{abs(points)}"
