"""What each principle does about each category of harm, and whether that is what its words cover."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cai_lightning.evaluation.attribution import ADD_ONE, LEAVE_ONE_OUT, Views, value
from cai_lightning.evaluation.intervals import Floats
from cai_lightning.evaluation.pair_means import Places
from cai_lightning.evaluation.rank_correlation import spearman

Harm = Callable[[str], Mapping[str, int]]
"""A reply -> how often it has each category of harm."""


@dataclass(frozen=True)
class Cells:
    """Effects by principle and category for every resample: kind -> (rows, principles, categories).

    `fewer` (pairs, categories) is by how many elements of a category a has less harm than b.
    """

    names: tuple[str, ...]
    fewer: Floats
    kinds: dict[str, Floats]


def cells(views: Views, at: Places, harm: Harm) -> Cells | None:
    """The effects on the preference for the reply with less harm of a category, over pairs that differ in it.

    Categories are those that some pair differs in; null where there are none.
    """
    counts = [(harm(row.a), harm(row.b)) for row in views.rows]
    names = tuple(dict.fromkeys(name for pair in counts for one in pair for name in one))
    names = tuple(name for name in names if any(a.get(name, 0) != b.get(name, 0) for a, b in counts))
    if not names:
        return None
    fewer = np.array([[b.get(name, 0) - a.get(name, 0) for name in names] for a, b in counts], np.float64)
    kinds: dict[str, Floats] = {LEAVE_ONE_OUT: _by_category(lambda side: _left_out(views, side), fewer, at)}
    if (alone := views.alone) is not None:
        kinds[ADD_ONE] = _by_category(lambda side: value(alone, side) - 0.5, fewer, at)
    return Cells(names, fewer, kinds)


def _left_out(views: Views, side: Floats) -> Floats:
    return value(views.whole, side)[:, None] - value(views.without, side)


def _by_category(gain: Callable[[Floats], Floats], fewer: Floats, at: Places) -> Floats:
    found = [at.means(gain(side), np.abs(side)) for side in np.sign(fewer).T]
    return np.stack(found, axis=-1)


def by_category(found: Cells, at: Places) -> dict[str, Any]:
    """{"names", "n": clusters of each, kind: {"value", "low", "high"} as principles x categories}."""
    among = (found.fewer != 0).astype(np.float64)
    sizes = [at.count(column) for column in among.T]
    tables = {
        kind: [at.figures(rows[:, :, place], size) for place, size in enumerate(sizes)]
        for kind, rows in found.kinds.items()
    }
    return {
        "names": list(found.names),
        "n": sizes,
        **{
            kind: {
                end: [[column[place][end] for column in columns] for place in range(len(columns[0]))]
                for end in ("value", "low", "high")
            }
            for kind, columns in tables.items()
        },
    }


def truth(found: Cells, at: Places, covers: Sequence[frozenset[str]]) -> dict[str, Any] | None:
    """Spearman's rank correlations over all cells with whether the principle names the category; null if all are alike.

    {"rank_correlation": kind -> figure, "followed": that of a principle which is followed to the letter on the same
    pairs: it wants less harm of what it names and nothing else. No measurement need come higher.
    """
    named = np.array([[name in covered for name in found.names] for covered in covers], np.float64)
    if np.ptp(named) == 0:
        return None
    clusters = at.count(np.any(found.fewer != 0, axis=1).astype(np.float64))
    kinds = {**found.kinds, "followed": _followed(found, at, named)}
    figures = {kind: at.figures(_ranked(rows, named), clusters)[0] for kind, rows in kinds.items()}
    return {"followed": figures.pop("followed"), "rank_correlation": figures, "cells": named.size}


def _followed(found: Cells, at: Places, named: Floats) -> Floats:
    wanted = np.sign(found.fewer @ named.T)
    return _by_category(lambda side: wanted * side[:, None] / 2, found.fewer, at)


def _ranked(rows: Floats, named: Floats) -> Floats:
    flat = np.round(rows.reshape(len(rows), -1), 12)  # effects that are equal but for rounding share a rank
    return np.array([[spearman(row, named.ravel())] for row in flat])
