"""What an experiment found: every arm's figures, and a verdict on each claim that was stated beforehand."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.stages.verdicts import ASSESSMENTS
from cai_lightning.text.artifacts import Table
from cai_lightning.text.records import ROWS, Assessment, Verdict, read_rows

if TYPE_CHECKING:
    from cai_lightning.evaluation.arms import Measured
    from cai_lightning.evaluation.claims import Claim
    from cai_lightning.evaluation.summary import Run

FINDINGS = "findings.json"


def run(
    out: Path,
    *,
    runs: list[dict[str, Any]],
    name: str,
    question: str,
    prediction: str | None,
    reseeded: str,
    note: str | None,
    metrics: dict[str, dict[str, Any]],
    claims: list[dict[str, Any]],
    figure: dict[str, Any] | None,
    anchor: str | None,
    prior_sd: float,
    resamples: int,
    seed: int,
) -> Table:
    """`findings.json`: arms with figures and 95 % intervals, and claims with contrasts and verdicts.

    `runs` holds, for each replicate, folders of assessments or verdicts by name; in a sweep a name ends with the job's
    setting in brackets, which is added to the names of the players in it. `metrics` and `claims` are fields of
    `evaluation.arms.Metric` and `evaluation.claims.Claim`; `reseeded` is the first stage that replicates differ in.
    """
    from cai_lightning.evaluation.arms import Metric, measure
    from cai_lightning.evaluation.claims import judge

    wanted = {key: Metric(**{**one, "kinds": tuple(one.get("kinds", ()))}) for key, one in metrics.items()}
    stated = [claim_of(one, place) for place, one in enumerate(claims)]
    measured = measure(_pooled(runs), wanted, anchor=anchor, prior_sd=prior_sd, resamples=resamples, seed=seed)
    known = [key for key in wanted if measured.cells[key]]
    described = [key for key in wanted if key in known or any(claim.metric == key for claim in stated)]
    table = {
        "name": name,
        "question": question,
        "prediction": prediction,
        "replicates": list(dict.fromkeys(str(one["replicate"]) for one in runs)),
        "reseeded": reseeded,
        "note": _note(note, measured.incomplete),
        "metrics": {
            key: {"label": wanted[key].label, "unit": wanted[key].unit, "better": wanted[key].better}
            for key in described
        },
        "arms": _arms(measured, known),
        "claims": judge(stated, measured),
        "figure": figure,
    }
    (out / FINDINGS).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return out


def claim_of(fields: Mapping[str, Any], place: int) -> Claim:
    """The claim that a YAML mapping describes. Raises ValueError naming the key that is wrong."""
    from cai_lightning.evaluation.claims import SIGNS, Claim

    known = {field.name: field for field in dataclasses.fields(Claim)}
    if unknown := [name for name in fields if name not in known]:
        raise ValueError(f"claims[{place}].{unknown[0]}: unknown key; allowed are {', '.join(known)}")
    needed = [name for name, field in known.items() if field.default is dataclasses.MISSING]
    if missing := [name for name in needed if name not in fields]:
        raise ValueError(f"claims[{place}].{missing[0]}: missing; a claim has {', '.join(needed)}")
    if fields["expected"] not in SIGNS:
        raise ValueError(f"claims[{place}].expected: is {fields['expected']!r}; it must be {', '.join(SIGNS)}")
    if fields["expected"] == "equal" and not fields["margin"] > 0:
        raise ValueError(f"claims[{place}].margin: is {fields['margin']}; what is called equal needs one above 0")
    return Claim(**fields)


def check_recipe(values: Mapping[str, Any]) -> None:
    """Raises ValueError where a claim is no claim, or is about a metric that is not defined."""
    for place, one in enumerate(values["claims"]):
        if claim_of(one, place).metric not in values["metrics"]:
            known = ", ".join(values["metrics"])
            raise ValueError(f"claims[{place}].metric: {one['metric']!r} is not among the metrics {known}")


def _pooled(runs: Sequence[Mapping[str, Any]]) -> dict[str, Run]:
    """The rows of each replicate, players under the names that they have in the whole sweep; equal folders once."""
    from cai_lightning.evaluation.summary import Run

    pooled: dict[str, Run] = {}
    read: set[tuple[str, str, str]] = set()
    for one in runs:
        replicate = str(one["replicate"])
        folders = {name: Path(path) for name, path in one["measured"].items()}
        rows = {name: _assessments(folder) for name, folder in folders.items()}
        settings = {_base(row.player): _setting(name) for name, found in rows.items() for row in found}
        for name, folder in folders.items():
            if (replicate, _setting(name), str(folder)) not in read:
                read.add((replicate, _setting(name), str(folder)))
                own = settings | {_base(row.player): _setting(name) for row in rows[name]}
                more = _renamed(folder, rows[name], own)
                known = pooled.get(replicate, Run([], []))
                pooled[replicate] = Run([*known.verdicts, *more.verdicts], [*known.assessments, *more.assessments])
    return pooled


def _setting(name: str) -> str:
    """What a sweep added to a name, with the space before it: " [kl_coef=0.1]"."""
    return name[name.find(" [") :] if " [" in name else ""


def _base(player: str) -> str:
    return player.partition("@")[0]


def _assessments(folder: Path) -> list[Assessment]:
    return read_rows(folder, Assessment, ASSESSMENTS if (folder / ASSESSMENTS).exists() else ROWS)


def _renamed(folder: Path, rows: Sequence[Assessment], settings: Mapping[str, str]) -> Run:
    """A folder's rows with each player's setting in its name."""
    from cai_lightning.evaluation.summary import Run

    def named(player: str) -> str:
        base, at, point = player.partition("@")
        return f"{base}{settings.get(base, '')}{at}{point}"

    verdicts = read_rows(folder, Verdict) if (folder / ASSESSMENTS).exists() else []
    return Run(
        [dataclasses.replace(row, player=named(row.player), opponent=named(row.opponent)) for row in verdicts],
        [dataclasses.replace(row, player=named(row.player)) for row in rows],
    )


def _arms(measured: Measured, known: Sequence[str]) -> list[dict[str, Any]]:
    names = {arm for key in known for arm in measured.cells[key]}
    ordered = sorted(names, key=lambda arm: (arm.partition("@")[0], measured.points.get(arm) or 0, arm))
    return [
        {
            "arm": arm,
            "run": arm.partition("@")[0],
            "at": measured.points.get(arm),
            "figures": {key: measured.cells[key][arm].figure for key in known if arm in measured.cells[key]},
        }
        for arm in ordered
    ]


def _note(note: str | None, incomplete: Sequence[str]) -> str | None:
    if not incomplete:
        return note
    left = f"Left out, for not every replicate has them: {', '.join(incomplete)}."
    return left if note is None else f"{note} {left}"


def estimate(_: Mapping[str, Any]) -> Estimate:
    """No model is asked."""
    return Estimate(None)
