"""The runs and sweeps of a joined page: what they are, the command that made each, and their results."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from cai_lightning.report.commands import command
from cai_lightning.report.finished import Finished
from cai_lightning.report.markup import Html, fixed, folded, table


def runs_table(runs: Sequence[Finished]) -> str:
    """A row a run or sweep: what it is, how long it took, where it lies, and the command that made it."""
    rows: list[list[str | Html]] = [
        [
            Html(f"{escape(run.label)}<small>{escape(run.folder.name)}</small>"),
            f"sweep of {len(run.jobs)} job{'s' * (len(run.jobs) > 1)}" if run.is_sweep else "run",
            ", ".join(map(str, run.seeds)),
            str(run.summary.get("judge") or "–"),
            fixed(run.facts.get("seconds"), "{:,.0f}\u00a0s"),
            Html(f"<code>{escape(made_by)}</code>") if made_by else "–",
        ]
        for run, made_by in zip(runs, map(command, runs), strict=True)
    ]
    return table(["Run or sweep", "Kind", "Seeds", "Judge", "Time", "Made by"], rows, style="measured joined")


def results(runs: Sequence[Finished]) -> str:
    """Every result of every run by its slot, a folded table a run."""
    parts = []
    for run in runs:
        found: dict[tuple[str, str], list[str]] = {}
        for job, keys in [*([("joint", run.facts["keys"])] if run.is_sweep else []), *run.jobs]:
            for slot, name in keys.items():
                found.setdefault((slot, name), []).append(job)
        rows = [[slot, name, ", ".join(where)] for (slot, name), where in found.items()]
        head = ["Slot", "Result", "Jobs"] if run.is_sweep else ["Slot", "Result", ""]
        parts.append(folded(f"{run.label}: {len({name for _, name in found})} results", table(head, rows)))
    return "".join(parts)
