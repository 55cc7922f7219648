"""`cai run` of the toy pipeline in processes of its own, for tests of multiruns."""

import json
import os
import subprocess
import sys
from pathlib import Path

from cai_lightning.experiment.compose import ROOT

HERE = Path(__file__).parent


def command(folder: Path, *overrides: str) -> list[str]:
    search = f"hydra.searchpath=[file://{ROOT},file://{HERE / 'toy'}]"
    outputs = f"runtime.outputs={folder / 'out'}"
    return [sys.executable, "-m", "cai_lightning", "run", search, "experiment=toy", outputs, *overrides]


def environment(folder: Path, **more: str) -> dict[str, str]:
    paths = os.pathsep.join([str(HERE), *(path for path in sys.path if path)])
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "CAI_THREADS")}
    return {**kept, "PYTHONPATH": paths, "TOY_LOG": str(folder / "log"), **more}


def cai(folder: Path, *overrides: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *overrides),
        cwd=folder,
        env=environment(folder, **more),
        capture_output=True,
        text=True,
        check=False,
    )


def noted(folder: Path) -> list[dict[str, str]]:
    """What stages and reports have noted so far, in order."""
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]
