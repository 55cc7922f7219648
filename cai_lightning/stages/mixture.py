"""Labels or ratings of several sources in one list, with limits and weights by source, all or one part."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from cai_lightning.text.records import Label, Rating, read_rows

Row = TypeVar("Row", Label, Rating)


def mixed_labels(
    labels: Mapping[str, Path],
    *,
    limits: Mapping[str, int | None],
    weights: Mapping[str, float],
    part: Mapping[str, int] | None,
    seed: int,
) -> list[Label]:
    """The labels, as `mixed` has them."""
    return mixed(Label, labels, limits=limits, weights=weights, part=part, seed=seed)


def mixed(
    record: type[Row],
    folders: Mapping[str, Path],
    *,
    limits: Mapping[str, int | None],
    weights: Mapping[str, float],
    part: Mapping[str, int] | None,
    seed: int,
) -> list[Row]:
    """The rows of a part, source by source: at most `limits[source]` of each, chosen by seed, their weight times
    `weights[source]`, their source named as here. Raises ValueError on ids that two sources share.

    `part` is {number, of}, as in `in_part`; null takes all.
    """
    for name, given in (("limits", limits), ("weights", weights)):
        if unknown := [source for source in folders if source not in given]:
            raise ValueError(f"{name}: no entry for the source {unknown[0]!r}; null is no limit, 1.0 the plain weight")
    rows: list[Row] = []
    for source, folder in folders.items():
        own = in_part(read_rows(folder, record), part)
        for row in _some(own, limits[source], f"{seed}/{source}"):
            rows.append(dataclasses.replace(row, source=source, weight=row.weight * weights[source]))
    seen: dict[str, str] = {}
    for row in rows:
        if row.id in seen:
            what = f"{record.__name__.lower()}s: id {row.id!r}"
            raise ValueError(f"{what} stands in {seen[row.id]} and {row.source}; ids must be unique")
        seen[row.id] = row.source
    return rows


def in_part(rows: list[Row], part: Mapping[str, int] | None) -> list[Row]:
    """The rows whose prompt's cluster hashes into part `number` (from 0) of `of`, in their own order; null is all.

    Parts share no cluster and together are all rows, whatever sources and seeds: so a policy is trained against one
    reward model and judged by another (Bai et al. 2022a, arXiv 2204.05862, section 4.2, which divides at random).
    Raises ValueError where there is no such part.
    """
    if part is None:
        return rows
    if set(part) != {"number", "of"} or not 0 <= part["number"] < part["of"]:
        raise ValueError(f"part: {dict(part)} given; write {{number: 0, of: 2}}, numbers from 0 to one below `of`")
    return [row for row in rows if _part_of(row.prompt.cluster, part["of"]) == part["number"]]


def _part_of(cluster: str, parts: int) -> int:
    # a hash of its own: under that of `wrappers.share` a share of a file would lie in one part
    return int.from_bytes(hashlib.sha256(f"part/{cluster}".encode()).digest()) % parts


def _some(rows: list[Row], limit: int | None, seed: str) -> list[Row]:
    """`limit` rows chosen by the hash of seed and id, in their own order."""
    if limit is None or limit >= len(rows):
        return rows
    chosen = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row.id}".encode()).digest())[:limit]
    kept = {row.id for row in chosen}
    return [row for row in rows if row.id in kept]
