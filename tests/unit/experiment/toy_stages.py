"""Stages and a report for tests of multiruns: nothing heavy; the environment says which fail and where they note it."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cai_lightning.text.artifacts import Table


def shared(out: Path) -> Table:
    """What all jobs need: made once."""
    note(out, "shared")
    time.sleep(0.3)
    (out / "table.json").write_text("{}")
    return out


def parabola(out: Path, *, base: Table, x: float, fit: object) -> Table:  # noqa: ARG001
    """Two objectives that pull apart: x, and 1 - x^2. Fails or sleeps where the environment says so."""
    seen = ("OMP_NUM_THREADS", "RANK", "CUDA_VISIBLE_DEVICES")
    note(out, f"x={x}", pid=os.getpid(), **{name: os.environ.get(name) for name in seen})
    assert (base / "table.json").exists()
    if str(x) in os.environ.get("TOY_FAIL", "").split():
        raise ValueError(f"x: {x} is not wanted today")
    if str(x) in os.environ.get("TOY_SLEEP", "").split():
        time.sleep(60)
    if os.environ.get("RANK", "0") == "0":
        (out / "table.json").write_text(json.dumps({"right": x, "up": 1 - x * x}))
    return out


def devices(*, devices: int) -> int:
    """As a trainer's node: how many processes."""
    return devices


def report(folder: Path, *, run: Mapping[str, Any], table: Table) -> None:
    """A summary of the two objectives."""
    note(folder, "report")
    values = json.loads((table / "table.json").read_text())
    (folder / "summary.json").write_text(json.dumps({"player": values, "seconds": run["seconds"]}))


def note(out: Path, what: str, **more: Any) -> None:
    """One line to the file that the test reads."""
    with Path(os.environ["TOY_LOG"]).open("a") as file:
        file.write(json.dumps({"what": what, "job": out.name, **more}) + "\n")
