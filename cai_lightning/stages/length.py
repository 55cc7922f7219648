"""Win rates against the anchor, as they are and at equal length."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.stages.ratings import pooled
from cai_lightning.text.artifacts import Table
from cai_lightning.text.records import Answer, read_rows

if TYPE_CHECKING:
    from cai_lightning.evaluation.length import Matches
    from cai_lightning.evaluation.summary import Run

Lengths = Mapping[tuple[str, str, str], int]  # replicate, player, prompt -> words


def run(out: Path, *, runs: list[dict[str, Any]], anchor: str, resamples: int, seed: int) -> Table:
    """`length.json`: of every player, by criterion, the win rate against the anchor as it is and at equal length.

    `runs` holds, for each replicate, the verdict and answer folders of every player by name. Raises ValueError where a
    verdict's answers are not among them. The figures: evaluation/length.py.
    """
    from cai_lightning.evaluation.intervals import draws
    from cai_lightning.evaluation.length import length_controlled

    rows, words = pooled(runs), _words(runs)
    columns = sorted({(row.kind, row.cluster) for run in rows.values() for row in run.verdicts})
    drawn = draws([kind for kind, _ in columns], len(rows), resamples=resamples, seed=seed)
    place = {column: index for index, column in enumerate(columns)}
    found: dict[str, dict[str, Any]] = {}
    for (player, axis), matches in sorted(_against(rows, words, anchor, place).items()):
        found.setdefault(player, {})[axis] = length_controlled(matches, drawn)
    table = {"anchor": anchor, "players": found}
    (out / "length.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return out


def _words(runs: Sequence[Mapping[str, Any]]) -> Lengths:
    """How many words each player's answer to each prompt has."""
    from cai_lightning.evaluation.surface import word_count

    found = {}
    for one in runs:
        for name, folder in one["answers"].items():
            for row in read_rows(Path(folder), Answer):
                player = name if row.sequences is None else f"{name}@{row.sequences}"
                found[str(one["replicate"]), player, row.prompt.id] = word_count(row.text)
    return found


def _against(
    rows: Mapping[str, Run], words: Lengths, anchor: str, place: Mapping[tuple[str, str], int]
) -> dict[tuple[str, str], Matches]:
    """The matches of every player with the anchor, by (player, axis)."""
    import numpy as np

    from cai_lightning.evaluation.length import Matches
    from cai_lightning.evaluation.rated import axis_of

    met: dict[tuple[str, str], list[tuple[float, int, int, int]]] = {}
    for number, (replicate, run) in enumerate(rows.items()):
        for row in run.verdicts:
            if anchor not in (row.player, row.opponent):
                continue
            mine, score = (row.player, row.score) if row.opponent == anchor else (row.opponent, 1 - row.score)
            sides = [words.get((replicate, player, row.prompt)) for player in (mine, anchor)]
            if None in sides:
                absent = mine if sides[0] is None else anchor
                raise ValueError(
                    f"runs: no answer of {absent!r} to prompt {row.prompt}; give the answers of its verdicts"
                )
            longer = (sides[0] or 0) - (sides[1] or 0)
            met.setdefault((mine, axis_of(row)), []).append((score, longer, number, place[row.kind, row.cluster]))
    return {
        key: Matches(
            np.array([one[0] for one in found], dtype=np.float64),
            np.array([one[1] for one in found], dtype=np.float64),
            np.array([one[2] for one in found], dtype=np.int64),
            np.array([one[3] for one in found], dtype=np.int64),
        )
        for key, found in met.items()
    }


def estimate(_: Mapping[str, Any]) -> Estimate:
    """No model is asked."""
    return Estimate(None)
