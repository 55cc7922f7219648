"""Labels of several sources in one list, with limits and weights by source."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

from cai_lightning.text.records import Label, read_rows


def mixed_labels(
    labels: Mapping[str, Path], *, limits: Mapping[str, int | None], weights: Mapping[str, float], seed: int
) -> list[Label]:
    """All labels, source by source: at most `limits[source]` of each, chosen by seed, their weight times
    `weights[source]`, their source named as here. Raises ValueError on ids that two sources share.
    """
    for name, given in (("limits", limits), ("weights", weights)):
        if unknown := [source for source in labels if source not in given]:
            raise ValueError(f"{name}: no entry for the source {unknown[0]!r}; null is no limit, 1.0 the plain weight")
    rows = []
    for source, folder in labels.items():
        for row in _some(read_rows(folder, Label), limits[source], f"{seed}/{source}"):
            rows.append(dataclasses.replace(row, source=source, weight=row.weight * weights[source]))
    seen: dict[str, str] = {}
    for row in rows:
        if row.id in seen:
            raise ValueError(f"labels: id {row.id!r} stands in {seen[row.id]} and {row.source}; ids must be unique")
        seen[row.id] = row.source
    return rows


def _some(rows: list[Label], limit: int | None, seed: str) -> list[Label]:
    """`limit` rows chosen by the hash of seed and id, in their own order."""
    if limit is None or limit >= len(rows):
        return rows
    chosen = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row.id}".encode()).digest())[:limit]
    kept = {row.id for row in chosen}
    return [row for row in rows if row.id in kept]
