"""The end of a run: summary.json, report.html and figures/*.png from artifacts and the run's facts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from omegaconf import OmegaConf

from cai_lightning.report import findings as found
from cai_lightning.report.console import as_text, rating_table
from cai_lightning.report.feedback import FIGURES
from cai_lightning.report.figures import figures, write
from cai_lightning.report.page import render
from cai_lightning.report.public import Shown
from cai_lightning.report.ratings import tie_warnings
from cai_lightning.report.sheets import write_csv
from cai_lightning.report.transcripts import choose
from cai_lightning.text.artifacts import AnswerRows, RevisionRows, Table
from cai_lightning.text.records import Answer, Revision, read_rows

SCHEMA = 1
BESIDE = ("manifest.json", "timing.json", "hits.json")
WIDTH = 120


def run(
    folder: Path,
    *,
    run: Mapping[str, Any],
    ratings: Table,
    calibration: Table | None,
    reward_accuracy: Table | None,
    evals: Table | None,
    tables: dict[str, Table],
    revisions: RevisionRows,
    answers: list[AnswerRows],
    judge: str,
    most_ties: float,
    transcripts: int,
    note: str | None,
) -> None:
    """Writes the files of a run and prints its rating table; half-wins above a share of `most_ties` are warned of."""
    table = _read(ratings / "ratings.json")
    variant = table["variants"][""]
    feedback = _read(calibration / "feedback.json") if calibration else None
    reward = _read(reward_accuracy / "reward_model.json") if reward_accuracy else None
    shown = {name: content(path) for name, path in tables.items()}
    summary = summarise(
        run,
        table,
        feedback=feedback,
        reward_model=reward,
        evals=_read(evals / "evals.json") if evals else None,
        tables={name: one.content for name, one in shown.items()},
        jobs=jobs(folder) if isinstance(run["replicate"], list) else [],
        judge=judge,
        warnings=tie_warnings(variant, most_ties),
    )
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    chosen = choose(
        read_rows(revisions, Revision),
        [row for path in answers for row in read_rows(path, Answer) if row.sequences is None],
        count=transcripts,
    )
    parts = {"ratings": variant, "calibration": feedback, "reward_model": reward, "note": note, "public": shown}
    (folder / "report.html").write_text(render(summary, parts, chosen), encoding="utf-8")
    write_beside(folder, figures(variant, feedback), [one.content for one in shown.values() if one.kind == found.KIND])
    _tell(folder, summary, title=str(run["experiment"]))


def _tell(folder: Path, summary: Mapping[str, Any], *, title: str) -> None:
    print(as_text(rating_table(summary["players"], title=title, width=WIDTH), width=WIDTH))
    for words in summary["warnings"]:
        print(f"warning: {words}")
    print(f"report: {folder / 'report.html'}")


def write_beside(folder: Path, drawn: Mapping[str, Figure], measured: Sequence[Mapping[str, Any]]) -> None:
    """Writes `figures/*.png` of the run and of its findings, and `findings.csv` where there are any.

    A figure of findings is named as they are, with `_arms` behind it where the run has a figure of that name.
    """
    (folder / "figures").mkdir(exist_ok=True)
    write(folder / "figures", drawn)
    for name, figure in (item for one in measured for item in found.draw(one).items()):
        write(folder / "figures", {f"{name}_arms" if name in drawn else name: figure})
    if measured:
        write_csv(folder / "findings.csv", found.COLUMNS, [row for one in measured for row in found.rows(one)])


def summarise(
    run: Mapping[str, Any],
    ratings: Mapping[str, Any] | None,
    *,
    feedback: Mapping[str, Any] | None,
    reward_model: Mapping[str, Any] | None,
    evals: Mapping[str, Any] | None,
    tables: Mapping[str, Any],
    jobs: Sequence[Mapping[str, Any]],
    judge: str | None,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The contract of docs/summary.md; what is unavailable is null. `ratings` is null where no players were rated."""
    variant, replicate = ratings["variants"][""] if ratings else {"players": {}, "frontier": None}, run["replicate"]
    return {
        "schema": SCHEMA,
        "experiment": run["experiment"],
        "seeds": list(replicate) if isinstance(replicate, Sequence) else [replicate],
        "seconds": run["seconds"],
        "peak_rss_mb": run["peak_rss_mb"],
        "anchor": ratings["anchor"] if ratings else None,
        "judge": judge,
        "ties": variant.get("ties", {}),
        "warnings": list(warnings),
        "players": variant["players"],
        "curve": variant.get("curve", []),
        "feedback": {name: feedback[name] if feedback else None for name in FIGURES},
        "reward_model": {
            f"accuracy_{name}": reward_model[f"accuracy_{name}"]["value"]
            if reward_model and f"accuracy_{name}" in reward_model
            else None
            for name in ("harmless", "helpful")
        },
        "frontier": {"hypervolume": (variant["frontier"] or {}).get("hypervolume")},
        "stages": run["stages"],
        "evals": {
            name: {key: value[key] for key in ("accuracy", "low", "high", "n")} for name, value in (evals or {}).items()
        },
        "tables": tables,
        "jobs": jobs,
    }


def content(path: Path) -> Shown:
    """The one table of an artifact; beside it lie only the store's own files and the rows behind it.

    Raises ValueError where there is none, or more than one.
    """
    found = [file for file in sorted(path.glob("*.json")) if file.name not in BESIDE]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(f"report.tables: {path} must hold one table as JSON, holds {names}; name another stage")
    return Shown(found[0].stem, _read(found[0]))


def jobs(folder: Path) -> list[dict[str, Any]]:
    """What each finished job below a sweep's folder says of its labels and reward model."""
    places = sorted((path.parent for path in folder.glob("*/run.json")), key=lambda path: (len(path.name), path.name))
    return [
        {
            "job": place.name,
            "overrides": [str(text) for text in OmegaConf.load(place / ".hydra" / "overrides.yaml")],
            **{name: summary[name] for name in ("seeds", "feedback", "reward_model")},
        }
        for place in places
        for summary in [_read(place / "summary.json")]
    ]


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
