"""What W&B wrote offline, read back: records of protobuf in LevelDB's log framing, behind a header of seven bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7


def records(file: Path) -> Iterator[Any]:
    """The records of a `.wandb` file."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = file.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # whole, or the last of several
            yield Record.FromString(parts)
            parts = b""


def _name(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def read(folder: Path) -> dict[str, Any]:
    """A W&B run: its names, config, history, summary, x-axis, artifacts made and used, and how it ended."""
    found: dict[str, Any] = {
        "config": {},
        "history": [],
        "summary": {},
        "axes": {},
        "made": [],
        "used": [],
        "exit": None,
    }
    (file,) = folder.glob("*.wandb")
    for record in records(file):
        kind = record.WhichOneof("record_type")
        one = getattr(record, kind)
        if kind == "run":
            names = {"id": one.run_id, "name": one.display_name, "group": one.run_group, "job": one.job_type}
            found |= {**names, "project": one.project, "tags": list(one.tags), "sweep": one.sweep_id}
            found["config"] |= {_name(item): json.loads(item.value_json) for item in one.config.update}
        elif kind == "history":
            found["history"].append({_name(item): json.loads(item.value_json) for item in one.item})
        elif kind == "summary":
            found["summary"] |= {_name(item): json.loads(item.value_json) for item in one.update}
        elif kind == "metric":
            found["axes"][one.name or one.glob_name] = one.step_metric
        elif kind == "artifact":
            found["used" if one.use_after_commit else "made"].append(one.name)
        elif kind == "exit":
            found["exit"] = one.exit_code
    return found


def read_all(place: Path) -> dict[str, dict[str, Any]]:
    """All W&B runs of a folder, by job type."""
    return {run["job"]: run for run in map(read, sorted(place.glob("offline-run-*")))}
