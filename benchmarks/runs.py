"""Runs the measurements, each in a process of its own on one core, sides in turn; what is finished is not run again."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from benchmarks.measure import QUIET
from benchmarks.rows import Result, Row

EVEN = 1.07  # how much the core's speed may differ between the sides of one repeat
ODDS = 1e-3  # nats by which two sides may differ in their answer to one question
ROOT = Path(__file__).resolve().parent.parent


class Failed(Exception):
    """A measurement that ended with an error, or sides that did not do the same work; one line."""


class Runs:
    """The results in `folder`, by row, repeat and side, and what makes more; `peers` is the peers' interpreter.

    A result of the package counts as long as the package's source and configuration are what they were.
    """

    def __init__(self, folder: Path, *, ours: str, peers: str, core: int | None, tries: int) -> None:
        self._folder, self._ours, self._peers, self._core, self._tries = folder, ours, peers, core, tries
        self._code = _digest([ROOT / "cai_lightning", ROOT / "conf"])
        self._file = folder / "runs.jsonl"
        self._known: dict[str, dict[str, Any]] = {}
        if self._file.exists():
            for line in self._file.read_text(encoding="utf-8").splitlines():
                kept = json.loads(line)
                self._known[json.dumps(kept["key"])] = kept["result"]

    def repeat(self, row: Row, number: int) -> dict[str, Result]:
        """The results of all sides, those that are missing run now. Raises Failed."""
        for name in row.sides:
            if self._key(row, number, name) not in self._known:
                self._run(row, number, name, tries=1)
        while True:
            found = self._found(row, number)
            tries = min(result["tries"] for result in found.values())
            if is_even(found) or tries >= self._tries:
                check(row, found)
                return found
            for name in row.sides:
                self._run(row, number, name, tries=tries + 1)

    def _found(self, row: Row, number: int) -> dict[str, Result]:
        return {name: self._known[self._key(row, number, name)] for name in row.sides}

    def _key(self, row: Row, number: int, name: str) -> str:
        code = "" if _is_peer(row.sides[name]) else self._code
        return json.dumps([row.measured, number, name, row.sides[name], code])

    def _run(self, row: Row, number: int, name: str, *, tries: int) -> None:
        key = self._key(row, number, name)
        self._known[key] = {**self._measure(row.sides[name]), "tries": tries}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": json.loads(key), "result": self._known[key]}) + "\n")

    def _measure(self, side: str) -> dict[str, Any]:
        module, task, *settings = side.split()
        python = self._peers if _is_peer(side) else self._ours
        words = [python, "-m", f"benchmarks.{module}", task, f"work={self._folder / 'work'}", *settings]
        done = subprocess.run(
            words,
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, **QUIET},
            preexec_fn=_pinned(self._core),
        )
        if done.returncode:
            last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
            raise Failed(f"{' '.join(words)}: {last[0] if last else f'ended with code {done.returncode}'}")
        return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def is_even(found: Mapping[str, Result]) -> bool:
    """Whether the core was about as quick for all sides, by the mean over both number formats."""
    rates = [geometric_mean(result["calibration"].values()) for result in found.values()]
    return max(rates) <= EVEN * min(rates)


def check(row: Row, found: Mapping[str, Result]) -> None:
    """Raises Failed unless the sides of a comparison did the same work, and gave the same answers where both did."""
    if not row.compared:
        return
    ours, peer = found["ours"], found["peer"]
    if ours["work"] != peer["work"]:
        raise Failed(f"ours did {ours['work']}, the peer {peer['work']}; they must be the same")
    if "odds" in ours and any(abs(a - b) > ODDS for a, b in zip(ours["odds"], peer["odds"], strict=True)):
        raise Failed(f"ours and the peer answer the same questions differently by more than {ODDS} nats")


def _is_peer(side: str) -> bool:
    return side.startswith("peers ")


def _pinned(core: int | None) -> Callable[[], None] | None:
    return None if core is None else lambda: os.sched_setaffinity(0, {core})


def _digest(folders: list[Path]) -> str:
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in (".py", ".yaml")]
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()[:16]
