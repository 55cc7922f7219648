"""Labels or ratings of several sources in one list, with limits and weights by source."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from cai_lightning.text.records import Label, Rating, read_rows

Row = TypeVar("Row", Label, Rating)


def mixed_labels(
    labels: Mapping[str, Path], *, limits: Mapping[str, int | None], weights: Mapping[str, float], seed: int
) -> list[Label]:
    """All labels, as `mixed` has them."""
    return mixed(Label, labels, limits=limits, weights=weights, seed=seed)


def mixed(
    record: type[Row],
    folders: Mapping[str, Path],
    *,
    limits: Mapping[str, int | None],
    weights: Mapping[str, float],
    seed: int,
) -> list[Row]:
    """All rows, source by source: at most `limits[source]` of each, chosen by seed, their weight times
    `weights[source]`, their source named as here. Raises ValueError on ids that two sources share.
    """
    for name, given in (("limits", limits), ("weights", weights)):
        if unknown := [source for source in folders if source not in given]:
            raise ValueError(f"{name}: no entry for the source {unknown[0]!r}; null is no limit, 1.0 the plain weight")
    rows: list[Row] = []
    for source, folder in folders.items():
        for row in _some(read_rows(folder, record), limits[source], f"{seed}/{source}"):
            rows.append(dataclasses.replace(row, source=source, weight=row.weight * weights[source]))
    seen: dict[str, str] = {}
    for row in rows:
        if row.id in seen:
            what = f"{record.__name__.lower()}s: id {row.id!r}"
            raise ValueError(f"{what} stands in {seen[row.id]} and {row.source}; ids must be unique")
        seen[row.id] = row.source
    return rows


def _some(rows: list[Row], limit: int | None, seed: str) -> list[Row]:
    """`limit` rows chosen by the hash of seed and id, in their own order."""
    if limit is None or limit >= len(rows):
        return rows
    chosen = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row.id}".encode()).digest())[:limit]
    kept = {row.id for row in chosen}
    return [row for row in rows if row.id in kept]
