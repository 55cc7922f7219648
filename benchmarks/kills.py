"""`python -m benchmarks.kills`: learning stages of the default run killed at random instants, and what came of it.

A finished run is the reference. Then, trial by trial, one stage's result is removed and the same command run again; it
is killed (SIGKILL) while that stage works, several times, and at last left to end. Half of the instants are uniform
over the stage, half fall within milliseconds of a change among its checkpoints. Counted are results whose bytes differ,
runs that failed, files left over, and the time that was lost: from the last checkpoint, or from the stage's begin where
there was none, to the kill. Work is one life and what was lost, over one life.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any

STAGES = ("sft", "reward_model", "dpo", "ppo")
NO_RESULT = {"timing.json"}  # clocks
WATCH_SECONDS, SHORT = 0.001, 0.003


@dataclass
class Tally:
    """What the trials of one stage came to."""

    trials: int = 0
    kills: int = 0
    mismatches: int = 0
    failures: int = 0
    leftovers: int = 0
    seconds: float = 0.0  # of one life, as it is now
    ratios: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)  # seconds a kill


def main() -> int:
    """Runs the trials, prints and writes the table; 1 where a result differed, a run failed or something was left."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--each", type=int, default=2, help="kills a trial")
    parser.add_argument("--outputs", type=Path, default=Path("outputs") / "kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*", help="of the run: experiment=smoke")
    options = parser.parse_args()
    overrides = [*options.overrides, f"runtime.outputs={options.outputs}", "runtime.wandb.mode=disabled"]
    command = [sys.executable, "-m", "cai_lightning", "run", "runtime.progress=off", *overrides]
    rng, tallies = random.Random(options.seed), {name: Tally() for name in STAGES}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for name, tally in tallies.items():
        tally.seconds = _one_life(options.outputs, name, command)
    while sum(tally.kills for tally in tallies.values()) < options.kills:
        name = min(STAGES, key=lambda name: tallies[name].kills)
        _trial(options.outputs, name, command, tallies[name], rng, options.each)
        print(f"{name}: {tallies[name]}", flush=True)
    table = _table(tallies)
    (options.outputs / "kills.md").write_text(table, encoding="utf-8")
    print(table)
    return int(any(tally.mismatches or tally.failures or tally.leftovers for tally in tallies.values()))


def _result(outputs: Path, name: str) -> Path:
    """The folder of the stage's result; there is one."""
    (found,) = [path.parent for path in (outputs / "store" / name).glob("*/manifest.json")]
    return found


def _one_life(outputs: Path, name: str, command: list[str]) -> float:
    """The seconds that the stage takes in a process that does nothing else."""
    rmtree(_result(outputs, name))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return float(json.loads((_result(outputs, name) / "timing.json").read_text())["seconds"])


def _trial(outputs: Path, name: str, command: list[str], tally: Tally, rng: random.Random, kills: int) -> None:
    result = _result(outputs, name)
    expected = _digests(result)
    rmtree(result)
    partial, lost = result.with_name(result.name + ".partial"), []
    for _ in range(kills):
        by_file = rng.random() < 0.5
        if (found := _killed(command, partial, rng.uniform(0, tally.seconds), by_file, rng)) is None:
            break  # it had ended before
        lost.append(found)
    ended = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    tally.trials, tally.kills, tally.lost = tally.trials + 1, tally.kills + len(lost), tally.lost + lost
    if ended.returncode or not result.exists():
        tally.failures += 1
        raise SystemExit(f"{name}: the run that was to go on ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
    last = float(json.loads((result / "timing.json").read_text())["seconds"])
    tally.mismatches += _digests(result) != expected
    tally.leftovers += partial.exists() or (result / ".work").exists()
    if lost:
        tally.ratios.append(1 + sum(lost) / tally.seconds)
    else:
        tally.seconds = last  # other work on the machine comes and goes


def _killed(command: list[str], partial: Path, after: float, by_file: bool, rng: random.Random) -> float | None:
    """Runs the command and kills it `after` seconds into the stage, or at the next change of its checkpoints then; the
    seconds of work that are lost. None where it ended first.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    seen = _state(partial)
    if not _wait(process, lambda: partial.exists() and (not seen or _opened(partial, process))):
        return None
    start = time.perf_counter()
    if not _wait(process, lambda: time.perf_counter() - start >= after):
        return None
    if by_file:
        before = _state(partial / ".work")
        _wait(process, lambda: _state(partial / ".work") != before or time.perf_counter() - start > 2 * after + 5)
        time.sleep(rng.uniform(0, SHORT))
    lived = time.perf_counter() - start
    if process.poll() is not None:
        return None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = [time.time() - path.stat().st_mtime for path in (partial / ".work").glob("*.ckpt")]
    return min([lived, *kept]) if partial.exists() else None


def _opened(partial: Path, process: subprocess.Popen[bytes]) -> bool:
    """Whether a process holds the lock of a result that an earlier one began: it works on it."""
    import fcntl

    lock = partial.parents[1] / ".locks" / f"{partial.parent.name}-{partial.name.removesuffix('.partial')}"
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return process.poll() is None
    return False


def _wait(process: subprocess.Popen[bytes], until: Callable[[], bool]) -> bool:
    while not until():
        if process.poll() is not None:
            return False
        time.sleep(WATCH_SECONDS)
    return True


def _state(folder: Path) -> dict[str, Any]:
    found = {}
    try:
        for entry in os.scandir(folder):
            found[entry.name] = (entry.stat().st_mtime_ns, entry.stat().st_size)
    except FileNotFoundError:
        return found
    return found


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in NO_RESULT)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _table(tallies: dict[str, Tally]) -> str:
    columns = (
        "stage",
        "one life",
        "lost a kill, median (most)",
        "work",
        "trials",
        "kills",
        "results that differ",
        "runs that failed",
        "files left",
    )
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    nothing = [float("nan")]
    for name, tally in tallies.items():
        ratios, lost = tally.ratios or nothing, tally.lost or nothing
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f})"
        counts = (tally.trials, tally.kills, tally.mismatches, tally.failures, tally.leftovers)
        seconds = f"{tally.seconds:.0f} s | {statistics.median(lost):.1f} s ({max(lost):.1f})"
        rows.append(f"| {name} | {seconds} | {ratio} | {' | '.join(map(str, counts))} |")
    names = ("trials", "kills", "mismatches", "failures", "leftovers")
    sums = [str(sum(getattr(tally, name) for tally in tallies.values())) for name in names]
    every = [ratio for tally in tallies.values() for ratio in tally.ratios] or nothing
    rows.append(f"| all | | | {statistics.median(every):.2f} | {' | '.join(sums)} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
