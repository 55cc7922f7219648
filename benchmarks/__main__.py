"""`python -m benchmarks`: the package against its peers on the same work. README.md beside this file says how."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import growth_table, report, table
from benchmarks.rows import Result, Row
from benchmarks.runs import ROOT, Failed, Runs

TRIES = 3  # of a repeat whose sides saw the core at different speeds


def main() -> int:
    """Runs what is wanted and not there, writes the report, and says whether anything failed."""
    options = _options()
    rows = _chosen(options)
    options.work.mkdir(parents=True, exist_ok=True)
    made = [sys.executable, "-m", "benchmarks.work", str(options.data), str(options.work / "work")]
    if subprocess.run(made, check=False, cwd=ROOT).returncode:
        return 1
    tries = 1 if options.quick else TRIES
    runs = Runs(options.work, ours=sys.executable, peers=str(options.peers), core=options.core, tries=tries)
    repeats: dict[str, list[dict[str, Result]]] = {}
    for row in rows:
        try:
            repeats[row.name] = [_repeat(runs, row, number) for number in range(options.repeats)]
        except Failed as error:
            print(f"{row.name}: {error}", file=sys.stderr, flush=True)
    found = [report.summary(row, repeats[row.name]) for row in rows if row.name in repeats]
    names = [row.name for row in (*table.rows(), *growth_table.rows())]
    report.write(options.out, found, _machine(repeats.values()), order=names)
    print(f"report: {options.out / 'results.md'}")
    return int(len(found) < len(rows))


def _repeat(runs: Runs, row: Row, number: int) -> dict[str, Result]:
    found = runs.repeat(row, number)
    print(f"{row.name} {number + 1}: {row.figure(found):.3g} {row.unit}", flush=True)
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    data = os.environ.get("CAI_SHARED_DATA")
    parser.add_argument("--rows", help="names or beginnings of names, with commas between; all if not given")
    parser.add_argument("--repeats", type=int, default=3, help="how often every row is measured")
    parser.add_argument("--quick", action="store_true", help="once, a quarter of the work, the small model alone")
    parser.add_argument("--data", type=Path, default=data, required=not data, help="folder with the files of the work")
    parser.add_argument("--work", type=Path, default=Path("outputs") / "benchmarks", help="what is made on the way")
    parser.add_argument("--out", type=Path, help="where results.json, .md and .svg go (default: beside this program)")
    parser.add_argument("--peers", type=Path, default=Path(".venv/bench/bin/python"), help="the peers' interpreter")
    parser.add_argument("--core", type=int, default=_last_core(), help="the core that all measurements share")
    options = parser.parse_args()
    options.work, options.data = options.work.absolute(), options.data.absolute()
    options.peers = options.peers.absolute()  # not resolved: an environment's interpreter is a link
    if not options.peers.exists():
        parser.error(f"--peers {options.peers}: no such interpreter; `make bench` makes the peers' environment")
    options.out = options.out or (options.work / "quick" if options.quick else Path(__file__).parent)
    options.repeats = 1 if options.quick else options.repeats
    return options


def _chosen(options: argparse.Namespace) -> list[Row]:
    compared, grown = table.rows(), growth_table.rows()
    wanted = tuple(options.rows.split(",")) if options.rows else ()
    if options.quick:
        compared = [row.quick() for row in compared if "size=m25m" not in row.sides["ours"]]
    rows = [row for row in (*compared, *grown) if row.name.startswith(wanted) or not wanted]
    if options.quick and not wanted:
        rows = compared
    if not rows:
        sys.exit(f"--rows {options.rows}: no such row; there are {', '.join(row.name for row in (*compared, *grown))}")
    return rows


def _last_core() -> int | None:
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _machine(repeats: Iterable[list[dict[str, Result]]]) -> dict[str, Any]:
    """The processor, its speed in the median, and the versions of the libraries."""
    results = [result for row in repeats for found in row for result in found.values()]
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    versions: dict[str, str] = {}
    for result in results:
        versions |= result["versions"]
    return {"processor": (names or [platform.machine()])[0], **dict(sorted(versions.items()))}


if __name__ == "__main__":
    sys.exit(main())
