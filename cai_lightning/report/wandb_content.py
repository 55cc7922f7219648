"""What Weights & Biases shows of a run, from its files: names and configs of W&B runs, and tables. Nothing is sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from cai_lightning.text.dialogue import Message, to_text

METRICS, ROWS_OF = "metrics.jsonl", "*.jsonl"
STEP, EPISODE = "step", "episode"  # optimizer steps; RL samples seen
CURVE = "curve"  # before the figures of snapshots
TAG_LENGTH = 64  # characters, W&B's limit
ENDS = ("value", "low", "high", "n")
Head = Mapping[str, Any]
Rows = tuple[Sequence[str], list[list[Any]]]
"""Columns, rows."""


def stage_names(head: Head, event: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `wandb.init` for the run of a stage: the recipe is its config, with the key that it makes."""
    stored = {name: event[name] for name in ("stage", "key", "version", "upstream")}
    return {
        "id": run_id(head, event["slot"], event["key"]),
        "name": f"{event['slot']}-{event['key']}",
        "job_type": event["slot"],
        "group": head["group"],
        "tags": _tags(head),
        "config": {"recipe": event["recipe"], "store": stored, "run": _run(head)},
    }


def summary_names(head: Head, folder: Path) -> dict[str, Any]:
    """The arguments of `wandb.init` for the run that stands for a whole run, or for a whole sweep."""
    overrides = folder / ".hydra" / "overrides.yaml"
    given = yaml.safe_load(overrides.read_text(encoding="utf-8")) if overrides.exists() else []
    keys = _read(folder / "artifacts.json")
    job = head["kind"] == "run" and folder.parent.parent.name == "sweeps"
    return {
        "id": head["agent"].get("WANDB_RUN_ID") or run_id(head, head["kind"], ""),
        "name": f"{folder.parent.name}-{folder.name}" if job else folder.name,
        "job_type": head["kind"],
        "group": head["group"],
        "tags": _tags(head),
        "config": {"run": {**_run(head), "overrides": given}, "keys": keys},
    }


def agent_settings(head: Head) -> dict[str, str]:
    """The W&B settings by which the run that stands for a whole run belongs to the sweep of a `wandb agent`."""
    names = {"sweep_id": "WANDB_SWEEP_ID", "sweep_param_path": "WANDB_SWEEP_PARAM_PATH"}
    return {name: head["agent"][variable] for name, variable in names.items() if variable in head["agent"]}


def run_id(head: Head, slot: str, key: str) -> str:
    """The name that W&B knows a run by: the same however often it is logged, another for another `cai run`."""
    return hashlib.sha256(f"{head['token']}/{slot}/{key}".encode()).hexdigest()[:16]


def axis(row: Mapping[str, Any]) -> str:
    """What the figures of a fit are drawn over, from its first row: RL samples seen, or optimizer steps."""
    return EPISODE if EPISODE in row else STEP


def texts(result: Path, count: int) -> dict[str, Rows]:
    """At most `count` rows of each file of rows in a result, evenly spread, by the file's name."""
    found: dict[str, Rows] = {}
    for file in sorted(result.glob(ROWS_OF)):
        lines = [] if file.name == METRICS else file.read_text(encoding="utf-8").splitlines()
        shown = min(count, len(lines))
        rows = [json.loads(lines[number * len(lines) // shown]) for number in range(shown)]
        if columns := list(dict.fromkeys(name for row in rows for name in row)):
            found[file.stem] = (columns, [[cell(row.get(name)) for name in columns] for row in rows])
    return found


def cell(value: Any) -> Any:
    """A value as a table shows it: dialogues as Human/Assistant text, a prompt as its dialogue, other nests as JSON."""
    if isinstance(value, dict) and "dialogue" in value:
        return cell(value["dialogue"])
    if (
        isinstance(value, list)
        and value
        and all(isinstance(one, dict) and set(one) == {"role", "content"} for one in value)
    ):
        return to_text([Message(**turn) for turn in value]).strip()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def players(summary: Mapping[str, Any]) -> Rows:
    """A row a player and metric of summary.json."""
    rows = [
        [player, metric, *(figure[end] for end in ENDS)]
        for player, figures in summary["players"].items()
        for metric, figure in figures.items()
    ]
    return ["player", "metric", *ENDS], rows


def claims(findings: Mapping[str, Any]) -> Rows:
    """A row a claim of findings.json."""
    from cai_lightning.report.findings import COLUMNS, rows

    return COLUMNS, [[row[name] for name in COLUMNS] for row in rows(findings) if row["part"] == "claim"]


def figures_of(summary: Mapping[str, Any]) -> dict[str, float]:
    """Single figures of a whole run by name: of each player, of labels and reward model, and each claim's verdict."""
    found: dict[str, Any] = {
        f"players/{player}/{metric}": figure["value"]
        for player, figures in summary["players"].items()
        for metric, figure in figures.items()
    }
    for part in ("feedback", "reward_model"):
        found |= {f"{part}/{name}": value for name, value in summary[part].items()}
    found["frontier/hypervolume"] = (summary["frontier"]["hypervolume"] or {}).get("value")
    found["seconds"] = summary["seconds"]
    return {name: value for name, value in found.items() if value is not None}


def curves(summary: Mapping[str, Any]) -> list[dict[str, float]]:
    """The figures of snapshots as rows over RL samples, `curve/<run>/<metric>`; one a number of samples, in order."""
    found: dict[int, dict[str, float]] = {}
    for one in summary.get("curve", []):  # older summaries have none
        row = found.setdefault(one["sequences"], {EPISODE: one["sequences"]})
        for metric, figure in one.items():
            if isinstance(figure, Mapping) and figure.get("value") is not None:
                row[f"{CURVE}/{one['run']}/{metric}"] = figure["value"]
    return [found[at] for at in sorted(found)]


def ends(folder: Path, store: Path) -> list[Path]:
    """The results of a run from which no other one of it was made."""
    results = [store / name for name in dict.fromkeys(_read(folder / "artifacts.json").values())]
    manifests = [_read(path / "manifest.json") for path in results if (path / "manifest.json").exists()]
    used = {name for manifest in manifests for name in manifest["upstream"].values()}
    return [path for path in results if f"{path.parent.name}/{path.name}" not in used]


def _run(head: Head) -> dict[str, Any]:
    return {name: head[name] for name in ("experiment", "sweep", "replicate", "constitution")}


def _tags(head: Head) -> list[str]:
    replicate = [] if head["replicate"] is None else [f"replicate={head['replicate']}"]
    named = [head["experiment"], *replicate, *(head[name] for name in ("sweep", "constitution") if head[name])]
    return list(dict.fromkeys(text[:TAG_LENGTH] for text in named))


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
