"""How right the feedback labels are, against a truth about each comparison under its own principle."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cai_lightning.constitution.principles import Constitution
from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import Table
from cai_lightning.text.dialogue import Dialogue
from cai_lightning.text.records import Label, read_rows

Truth = Callable[[str, Dialogue, str, str], float | None]


def run(out: Path, *, runs: list[dict[str, Any]], constitution: Constitution, truth: Truth, bins: int) -> Table:
    """`feedback.json`: accuracy, ECE, Brier, position bias and reliability bins of all runs' labels together.

    `truth(principle, dialogue, a, b)` is 1 where a is better under the principle's words, 0 where b is, null on ties.
    """
    import numpy as np

    from cai_lightning.evaluation.calibration import calibrate

    wording = {principle.id: principle.comparison or "" for principle in constitution.principles}

    def asked(ids: str | None) -> str:
        return " ".join(wording[id] for id in (ids or "").split("+"))

    rows = [row for one in runs for row in read_rows(Path(one["labels"]), Label)]
    known = [truth(asked(row.principle), row.prompt.dialogue, row.a, row.b) for row in rows]
    table = calibrate(
        np.array([row.p_a for row in rows]),
        [None if value is None else int(value) for value in known],
        [row.logit_ab for row in rows],
        [row.logit_ba for row in rows],
        bins=bins,
    )
    (out / "feedback.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return out


def estimate(_: Mapping[str, Any]) -> Estimate:
    """No model is asked."""
    return Estimate(None)
