"""`cai claims`: the newest sweep of each name, its claims in the terminal and as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cai_lightning.commands.claims import main, newest

CLAIM: dict[str, Any] = {
    "says": "Water is wet",
    "source": "fig. 1",
    "metric": "harmful_rate",
    "weights": {"a": 1},
    "expected": "less",
    "margin": 0.0,
    "than": None,
    "value": -0.25,
    "low": -0.3,
    "high": -0.2,
    "n": 12,
    "p": 0.001,
    "p_holm": 0.002,
    "verdict": "reproduced",
    "ingredient": "rain",
    "control": {"weights": {"b": 1}, "value": 0.0, "low": -0.1, "high": 0.1, "n": 12},
    "vanishes": True,
    "words": "reproduced in the micro-world, by: rain",
}


def sweep(outputs: Path, stamp: str, name: str, **changes: Any) -> Path:
    key = f"{name}-{stamp}"
    folder, store = outputs / "sweeps" / f"20260101-{stamp}-000000-{name}", outputs / "store" / "findings" / key
    folder.mkdir(parents=True)
    store.mkdir(parents=True)
    table = {
        "name": name,
        "question": "Is it?",
        "prediction": "Yes.",
        "replicates": ["0", "1"],
        "reseeded": "all",
        "note": None,
        "metrics": {"harmful_rate": {"label": "Harmful", "unit": "share", "better": "less"}},
        "arms": [],
        "claims": [CLAIM | changes],
        "figure": None,
    }
    (store / "findings.json").write_text(json.dumps(table))
    (store / "manifest.json").write_text("{}")
    facts = {"experiment": name, "keys": {"findings": f"findings/{key}"}, "replicate": [0, 1]}
    (folder / "run.json").write_text(json.dumps(facts))
    return folder


def test_the_newest_of_each_name_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(tmp_path, "000001", "rain", says="An earlier claim")
    newer = sweep(tmp_path, "000002", "rain")
    other = sweep(tmp_path, "000003", "label_modes", says="Labels")
    assert newest(tmp_path / "sweeps", []) == [other, newer]
    table = tmp_path / "claims.md"
    workspace: Any = SimpleNamespace(outputs=tmp_path)
    assert main(["--sweeps", "rain", "--markdown", str(table)], workspace) == 0
    said = capsys.readouterr().out
    assert "Water is wet" in said and "earlier" not in said and "2 seeds, from all on" in said
    row = table.read_text().splitlines()[2]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "Water is wet",
        "fig. 1",
        "−25.0 points",
        "−30.0 … −20.0",
        "reproduced in the micro-world, by: rain",
        "rain",
        "+0.0 (−10.0 … +10.0)",
        "`sweeps=rain`",
    ]


def test_a_sweep_that_was_not_run_is_named(tmp_path: Path) -> None:
    sweep(tmp_path, "000001", "rain")
    with pytest.raises(ValueError, match="no finished sweep 'snow'; `cai run sweeps=snow` makes it"):
        newest(tmp_path / "sweeps", ["snow"])
    with pytest.raises(ValueError, match="no finished sweep; `cai run sweeps=NAME` makes one"):
        newest(tmp_path / "none", [])
