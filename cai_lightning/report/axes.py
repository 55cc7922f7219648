"""Which runs share an axis of Elo, and their players on it: never two anchors, judges or sets of prompts on one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cai_lightning.evaluation.frontier import non_dominated
from cai_lightning.report.finished import Finished
from cai_lightning.report.makers import rated, upstream
from cai_lightning.report.ratings import tie_words
from cai_lightning.report.style import METRICS, UNKNOWN, began_with, ordered

ELLIPSES, VALUES = "ellipses", "replicate_values"
STARTS = began_with("")
ELOS = ("helpful_elo", "harmless_elo")


class Scale(NamedTuple):
    """What Elo are counted from and by whom. Two tables share an axis where all of it is equal."""

    anchor: str
    policies: tuple[str, ...]  # the models that stand at 0
    judges: tuple[str, ...]  # as recipes
    prompts: tuple[str, ...]  # results that hold the evaluation prompts
    ties: str  # what a tie counts for


class Rated(NamedTuple):
    """The ratings of one run or sweep: place among the joined ones, its variant of ratings.json, and the replies."""

    place: int
    label: str
    variant: Mapping[str, Any]
    answers: Mapping[str, list[tuple[str, str]]]


class Axis(NamedTuple):
    """Ratings that share a scale, and all their players as one variant; `places` says which runs a player is of."""

    scale: Scale
    rated: list[Rated]
    variant: dict[str, Any]
    places: dict[str, list[int]]
    answers: dict[str, list[tuple[str, str]]]


def scale_of(run: Finished, name: str, table: Mapping[str, Any]) -> Scale:
    """The scale of a ratings table `ratings/key`, read from what it was made of."""
    anchor = table["anchor"]
    replies = rated(run, name)
    answers = [run.manifest(one) for _, one in replies.get(anchor, [])]
    verdicts = [run.manifest(one) for one in run.manifest(name).get("upstream", {}).values()]
    judges = {json.dumps(one["recipe"].get("judge"), sort_keys=True) for one in verdicts if "recipe" in one}
    prompts = {key["stage"] for one in answers for key in one.get("recipe", {}).get("prompts", [])}
    policies = {model for one in answers if (model := upstream(one, "policy"))}
    return Scale(
        anchor, tuple(sorted(policies)), tuple(sorted(judges)), tuple(sorted(prompts)), tie_words(table["variants"][""])
    )


def axes(runs: Sequence[Finished]) -> list[Axis]:
    """The axes of all rated runs, in the order in which they first appear. Raises ValueError where a table is gone."""
    found: dict[Scale, list[Rated]] = {}
    for place, run in enumerate(runs):
        for slot, table in run.tables("ratings"):
            name = run.joint("ratings")[slot]
            one = Rated(place, run.label, table["variants"][""], rated(run, name))
            found.setdefault(scale_of(run, name, table), []).append(one)
    return [_axis(scale, together) for scale, together in found.items()]


def _axis(scale: Scale, together: list[Rated]) -> Axis:
    names = {(one.place, player): name for one in together for player, name in _names(one, together).items()}
    variant: dict[str, Any] = {"players": {}, VALUES: {}, ELLIPSES: {}, "curve": [], "wins": {}, "peaks": {}}
    places: dict[str, list[int]] = {}
    answers: dict[str, list[tuple[str, str]]] = {}
    for one in together:
        for player, figures in one.variant["players"].items():
            name = names[one.place, player]
            places.setdefault(name, []).append(one.place)
            # runs of an earlier version have fewer metrics
            variant["players"].setdefault(name, {metric: UNKNOWN for metric in METRICS} | figures)
            answers.setdefault(name, one.answers.get(player, []))
            for part in (VALUES, ELLIPSES):
                if player in one.variant[part]:
                    variant[part].setdefault(name, one.variant[part][player])
        own = {player: name for (place, player), name in names.items() if place == one.place}
        known = {snapshot["run"] for snapshot in variant["curve"]}
        for line, found in one.variant.get("peaks", {}).items():
            variant["peaks"].setdefault(own.get(line, line), found)
        variant["curve"] += [snapshot for snapshot in _curve(one, own) if snapshot["run"] not in known]
    variant["players"] = ordered(variant["players"])
    pareto = _pareto(variant["players"])
    variant["frontier"] = {"pareto": pareto} if pareto else None
    return Axis(scale, together, variant, places, answers)


def _names(one: Rated, together: Sequence[Rated]) -> dict[str, str]:
    """What the players of a run are called on the axis: by the run too, where another run's are not the same.

    The player that lines begin at keeps its name only where all runs have it, for lines find it by that name.
    """
    found = {}
    for player, figures in one.variant["players"].items():
        others = [other.variant["players"][player] for other in together if player in other.variant["players"]]
        everywhere = len(others) == len(together) or player != STARTS
        alike = everywhere and all(_same(figures, other) for other in others)
        found[player] = player if alike else _of(player, one.label)
    return found


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one[elo] == other[elo] for elo in ELOS)


def _of(player: str, label: str) -> str:
    """A player's name with its run's: "ppo" -> "ppo [run]", "ppo [kl=1]" -> "ppo [kl=1, run]"."""
    base, bracket, setting = player.partition(" [")
    return f"{base} [{setting.removesuffix(']')}, {label}]" if bracket else f"{base} [{label}]"


def _curve(one: Rated, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """The snapshots under the axis's names. A line whose start was renamed begins with the figures of its start.

    A start that kept its name is found by it where lines are drawn.
    """
    found: list[dict[str, Any]] = []
    for snapshot in one.variant["curve"]:
        run = names.get(snapshot["run"], snapshot["run"])
        start = began_with(snapshot["run"])
        if names.get(start or "", start) != start and not any(known["run"] == run for known in found):
            found.append({"player": names[str(start)], "run": run, "sequences": 0, **one.variant["players"][start]})
        found.append({**snapshot, "run": run})
    return found


def _pareto(players: Mapping[str, Any]) -> list[str]:
    """The players that no other one's point dominates."""
    placed = {name: [p[elo]["value"] for elo in ELOS] for name, p in players.items()}
    known = {name: point for name, point in placed.items() if None not in point}
    if not known:
        return []
    free = non_dominated(np.array(list(known.values())))
    return [name for name, alone in zip(known, free, strict=True) if alone]
