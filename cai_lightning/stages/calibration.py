"""How right the feedback labels are, against a truth about each comparison under its own principle."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cai_lightning.constitution.principles import Constitution
from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import Table
from cai_lightning.text.dialogue import Dialogue
from cai_lightning.text.records import Label, read_rows

Truth = Callable[[str, Dialogue, str, str], float | None]


def run(
    out: Path,
    *,
    runs: list[dict[str, Any]],
    constitution: Constitution,
    truth: Truth,
    bins: int,
    resamples: int,
    seed: int,
) -> Table:
    """`feedback.json`: accuracy, ECE, Brier, position bias and reliability bins of all runs' labels together.

    ECE has an interval, and what it would be by chance (evaluation/calibration_error.py).
    `truth(principle, dialogue, a, b)` is 1 where a is better under the principle's words, 0 where b is, null on ties.
    """
    import numpy as np

    from cai_lightning.evaluation.calibration import calibrate

    wording = {principle.id: principle.comparison or "" for principle in constitution.principles}

    def asked(ids: str | None) -> str:
        return " ".join(wording[id] for id in (ids or "").split("+"))

    named = [(str(one["replicate"]), row) for one in runs for row in read_rows(Path(one["labels"]), Label)]
    rows = [row for _, row in named]
    told = [truth(asked(row.principle), row.prompt.dialogue, row.a, row.b) for row in rows]
    table = calibrate(
        np.array([row.p_a for row in rows]),
        [None if value is None else int(value) for value in told],
        [row.logit_ab for row in rows],
        [row.logit_ba for row in rows],
        bins=bins,
    )
    kept = [(replicate, row, value) for (replicate, row), value in zip(named, told, strict=True) if value is not None]
    table |= _error(kept, bins=bins, resamples=resamples, seed=seed)
    (out / "feedback.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return out


def _error(
    kept: Sequence[tuple[str, Label, float]], *, bins: int, resamples: int, seed: int
) -> dict[str, float | None]:
    """How sure the ECE of labels is, each with its replicate and the truth about it."""
    import numpy as np

    from cai_lightning.evaluation.calibration import bin_members
    from cai_lightning.evaluation.calibration_error import calibration_error

    p = np.array([row.p_a for _, row, _ in kept])
    return calibration_error(
        p,
        np.array([value for *_, value in kept]),
        bin_members(p, bins=bins),
        [(row.prompt.kind, row.prompt.cluster) for _, row, _ in kept],
        [replicate for replicate, *_ in kept],
        resamples=resamples,
        seed=seed,
    )


def estimate(_: Mapping[str, Any]) -> Estimate:
    """No model is asked."""
    return Estimate(None)
