"""How things are named and coloured, the same on the page, in figures and in the terminal.

Colours begin with Okabe and Ito's, told apart by colour-blind readers; every player has a marker of its own as well,
and where there are more players than colours, colour and marker together tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple, TypeVar

Player = TypeVar("Player")

NAMES = {
    "helpful_only": "Helpful only",
    "rlhf_helpful": "Helpful RLHF",
    "rlhf_hh": "HH RLHF",
    "sl_cai": "SL-CAI",
    "dpo": "DPO-CAI",
    "cdpo": "cDPO",
    "robust": "Robust DPO",
    "ipo": "IPO",
    "hinge": "Hinge",
    "simpo": "SimPO",
    "orpo": "ORPO",
    "kto": "KTO-CAI",
    "ppo": "RL-CAI (PPO)",
    "ppo_cot": "RL-CAI (PPO, CoT)",
    "rloo": "RL-CAI (RLOO)",
    "grpo": "RL-CAI (GRPO)",
    "best_of_n": "Best of n",
}
GARBAGE = "garbage_rate"
METRICS = {
    "harmless_elo": "Harmless Elo",
    "helpful_elo": "Helpful Elo",
    "harmful_rate": "Harmful",
    "evasive_rate": "Evasive",
    "helpfulness": "Helpfulness",
    "benign_refusal_rate": "Benign refusals",
    "over_refusal_rate": "Borderline refusals",
    GARBAGE: "No reply",  # last, for a narrow terminal leaves out what comes last
}
ELO = ("harmless_elo", "helpful_elo")
UNKNOWN = {"value": None, "low": None, "high": None, "n": 0}  # a metric that was not measured

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
    "olive": ("#84862a", "#bdbf4f"),
    "indigo": ("#4b3f9e", "#9489e6"),
    "brown": ("#7d4b2a", "#b98a66"),
    "wine": ("#8a1c4a", "#d9668f"),
    "teal": ("#12666b", "#4fa9ad"),
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
    "rlhf_helpful": Look("green", "v"),
    "rlhf_hh": Look("purple", "P"),
    "ppo_cot": Look("sky", "X"),
}
_COLOURS = ("green", "purple", "sky", "olive", "indigo", "brown", "wine", "teal")
_MARKERS = ("v", "P", "X", "<", "*", ">", "p")  # no common divisor with the colours: all pairs come before one repeats

# matplotlib marker -> the same shape as a polygon of the page, in per cent from the top left; a circle needs none
SHAPES = {
    "s": "6 6,94 6,94 94,6 94",
    "D": "50 0,100 50,50 100,0 50",
    "^": "50 4,100 96,0 96",
    "v": "0 4,100 4,50 96",
    "<": "4 50,96 0,96 100",
    ">": "4 0,96 50,4 100",
    "P": "34 0,66 0,66 34,100 34,100 66,66 66,66 100,34 100,34 66,0 66,0 34,34 34",
    "X": "24 0,50 26,76 0,100 24,74 50,100 76,76 100,50 74,24 100,0 76,26 50,0 24",
    "*": "50 0,62 36,100 36,70 58,81 95,50 72,19 95,30 58,0 36,38 36",
    "p": "50 0,100 38,81 97,19 97,0 38",
}


def measured(players: Mapping[str, Any]) -> list[str]:
    """The metrics that any of the players has, in the order of columns; that of garbage where there is some."""

    def seen(metric: str) -> bool:
        values = [player[metric]["value"] for player in players.values() if metric in player]
        return any(values) if metric == GARBAGE else any(value is not None for value in values)

    return [metric for metric in METRICS if seen(metric)]


def looks(players: Sequence[str]) -> dict[str, Look]:
    """A look for each player: known ones keep theirs, others take the spare colours and markers in turn."""
    taken = {_KNOWN[name] for name in players if name in _KNOWN}
    every = (Look(_COLOURS[k % len(_COLOURS)], _MARKERS[k % len(_MARKERS)]) for k in count())
    spare = (look for look in every if look not in taken)
    return {name: _KNOWN.get(name) or next(spare) for name in players}


def mark(look: Look) -> str:
    """The player's marker in its colour, as HTML."""
    shape = SHAPES.get(look.marker)
    outline = f"polygon({','.join(_corner(point) for point in shape.split(','))})" if shape else "circle()"
    return f'<i class="key" style="--player:var(--{look.colour});clip-path:{outline}"></i>'


def _corner(point: str) -> str:
    x, y = point.split()
    return f"{x}% {y}%"


def ordered(players: Mapping[str, Player]) -> dict[str, Player]:
    """The players as readers meet them: in the pipeline's order, variants with their kind, then others as they come."""
    order = list(NAMES)
    rank = {name: order.index(_base(name)) if _base(name) in NAMES else len(order) for name in players}
    return {name: players[name] for name in sorted(players, key=rank.__getitem__)}


def label(player: str) -> str:
    """The player's name for readers; what follows the kind, "[variant]" or "@samples", stays."""
    base = _base(player)
    rest = player.removeprefix(base)
    return f"{NAMES[base]} {rest.strip()}".rstrip() if base in NAMES else player


def began_with(run: str) -> str | None:
    """The player that a run of RL started from; None for RLHF, whose pretrained model need not be a player."""
    return None if _base(run) in ("rlhf_helpful", "rlhf_hh") else "sl_cai"


def _base(player: str) -> str:
    return player.partition(" [")[0].partition("@")[0]


def number(metric: str, value: float | None) -> str:
    """A figure for readers: Elo as a signed integer, rates as per cent, a dash where unavailable."""
    if value is None:
        return "–"
    if metric not in ELO:
        return f"{100 * value:.1f}"
    points = round(value)
    sign = "+" if points > 0 else "\u2212" if points < 0 else ""
    return f"{sign}{abs(points)}"
