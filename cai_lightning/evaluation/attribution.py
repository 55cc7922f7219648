"""What each principle of a constitution does to the preference for the better reply, pair by pair.

The value of a view (the whole constitution, it without one principle, one principle alone) on a pair is its probability
for the better reply. Leave-one-out is the whole's value less that without the principle; add-one is the principle's own
value less 1/2, what knowing nothing gives. So both are above 0 where a principle helps.

Under the mean of probabilities a view is linear in its principles: leave-one-out is then (own value - the whole's) over
n - 1, and a swap (other's value - own) over n, so all rank the principles alike; the mean of log-odds is not linear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cai_lightning.evaluation.intervals import Floats
from cai_lightning.evaluation.pair_means import Places, places
from cai_lightning.evaluation.pooling import Pool, swapped, whole, without
from cai_lightning.text.dialogue import to_text
from cai_lightning.text.records import Label

LEAVE_ONE_OUT, ADD_ONE, ACCURACY = "leave_one_out", "add_one", "accuracy"


@dataclass(frozen=True)
class Views:
    """P(a is better) of every pair of one criterion: by the whole, without each principle, by each principle alone.

    `better` is 1 where a is truly better, -1 where b, 0 where nobody knows or neither is. `swapped` [pair, i, j] gives
    the voice of i to j. `alone`, `swapped` and `logits`, log-odds in nats under each principle, are null where the
    views are not made from such.
    """

    rows: Sequence[Label]
    replicates: Sequence[Any]
    better: Floats
    whole: Floats
    without: Floats
    alone: Floats | None
    swapped: Floats | None
    logits: Floats | None

    def places(self, *, resamples: int, seed: int) -> Places:
        """Where the pairs stand for resampling."""
        return places(self.replicates, [row.prompt.cluster for row in self.rows], resamples=resamples, seed=seed)


def from_log_odds(
    rows: Sequence[Label], replicates: Sequence[Any], logits: Floats, better: Floats | None, pool: Pool
) -> Views:
    """The views that log-odds (pairs, principles) give; without `better`, the whole's own side counts as better."""
    count = logits.shape[1]
    every = swapped(count)
    chances = pool(logits, whole(count))[:, 0]
    return Views(
        rows,
        replicates,
        np.sign(chances - 0.5) if better is None else better,
        chances,
        pool(logits, without(count)),
        pool(logits, np.eye(count)),
        pool(logits, every.reshape(-1, count)).reshape(-1, count, count),
        logits,
    )


def value(chances: Floats, better: Floats) -> Floats:
    """The probability for the better reply: of P(a) (pairs, ...) and the better side of each pair."""
    sign = better.reshape(-1, *[1] * (chances.ndim - 1))
    return 0.5 + sign * (chances - 0.5)


def right(chances: Floats, better: Floats) -> Floats:
    """Whether the better reply is preferred: 1, 0, or 1/2 where neither is."""
    return value(0.5 + np.sign(chances - 0.5) / 2, better)


def effects(views: Views, at: Places) -> dict[str, list[dict[str, Any]]]:
    """Kind of effect -> a figure for each principle, in its order; the kinds that the views know.

    `accuracy` is leave-one-out of the share of pairs on whose better side the view is.
    """
    among = (views.better != 0).astype(np.float64)
    gains = {LEAVE_ONE_OUT: value(views.whole, views.better)[:, None] - value(views.without, views.better)}
    if views.alone is not None:
        gains[ADD_ONE] = value(views.alone, views.better) - 0.5
    gains[ACCURACY] = right(views.whole, views.better)[:, None] - right(views.without, views.better)
    clusters = at.count(among)
    return {kind: at.figures(at.means(gain, among), clusters) for kind, gain in gains.items()}


def swaps(views: Views, at: Places) -> dict[str, Any] | None:
    """By how much the value changes where principle j (column) speaks in the place of i (row); null if not known."""
    if views.swapped is None:
        return None
    among = (views.better != 0).astype(np.float64)
    gain = value(views.swapped, views.better) - value(views.whole, views.better)[:, None, None]
    rows = at.means(gain.reshape(len(gain), -1), among)
    return at.matrix(rows.reshape(len(rows), *gain.shape[1:]), at.count(among))


def of_the_whole(views: Views, at: Places) -> dict[str, Any]:
    """What the whole is worth: its mean value, how often it is right, its pairs, and those with a better side."""
    among = (views.better != 0).astype(np.float64)
    both = np.stack([value(views.whole, views.better), right(views.whole, views.better)], axis=1)
    preference, accuracy = (_share(figure) for figure in at.figures(at.means(both, among), at.count(among)))
    return {"preference": preference, "accuracy": accuracy, "pairs": len(views.rows), "known": int(among.sum())}


def _share(figure: dict[str, Any]) -> dict[str, Any]:
    """The figure of a share, whose interval cannot leave 0 to 1."""
    return figure | {end: min(max(figure[end], 0.0), 1.0) for end in ("low", "high") if figure[end] is not None}


def flips(views: Views, principle: int, count: int) -> list[dict[str, Any]]:
    """At most `count` pairs whose label changes sides where the principle is left out, the largest change first."""
    return _changed(views, views.whole, views.without[:, principle], ("p_with", "p_without"), count)


def dissents(views: Views, principle: int, count: int) -> list[dict[str, Any]]:
    """The pairs on which the principle alone takes the other side than the whole, the largest difference first."""
    if views.alone is None:
        return []
    return _changed(views, views.alone[:, principle], views.whole, ("p_alone", "p_whole"), count)


def sides(views: Views) -> dict[str, list[float]]:
    """The share of all pairs that change sides: where each principle is left out, and where it stands alone."""
    found = {"left_out": views.without} | ({"alone": views.alone} if views.alone is not None else {})
    whole_side = np.sign(views.whole - 0.5)[:, None]
    return {name: np.mean(np.sign(p - 0.5) * whole_side < 0, axis=0).tolist() for name, p in found.items()}


def _changed(views: Views, one: Floats, other: Floats, names: tuple[str, str], count: int) -> list[dict[str, Any]]:
    crossed: list[int] = np.flatnonzero((one - 0.5) * (other - 0.5) < 0).tolist()
    order = sorted(crossed, key=lambda place: (-abs(one[place] - other[place]), views.rows[place].id, place))
    return [
        {
            "prompt": to_text(views.rows[place].prompt.dialogue),
            "a": views.rows[place].a,
            "b": views.rows[place].b,
            names[0]: float(one[place]),
            names[1]: float(other[place]),
            "better": {1: "a", -1: "b", 0: None}[int(views.better[place])],
        }
        for place in order[:count]
    ]


def principles(
    listed: Sequence[Mapping[str, Any]], views: Mapping[str, Views], at: Mapping[str, Places], *, count: int
) -> list[dict[str, Any]]:
    """An entry for each of the listed principles ({id, text, covers}): effects by kind and criterion, and its flips."""
    found = {criterion: effects(one, at[criterion]) for criterion, one in views.items()}
    turned = {criterion: sides(one) for criterion, one in views.items()}
    kinds = dict.fromkeys(kind for kinds in found.values() for kind in kinds)
    return [
        {
            **entry,
            "effects": {kind: {name: by_kind[kind][place] for name, by_kind in found.items()} for kind in kinds},
            "turned": {name: {how: shares[place] for how, shares in by_how.items()} for name, by_how in turned.items()},
            "flips": _spread(views, place, count, flips),
            "dissents": _spread(views, place, count, dissents),
        }
        for place, entry in enumerate(listed)
    ]


def _spread(views: Mapping[str, Views], place: int, count: int, find: Any) -> list[dict[str, Any]]:
    return [{"criterion": name, **entry} for name, one in views.items() for entry in find(one, place, count)]
