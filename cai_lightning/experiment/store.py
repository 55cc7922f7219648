"""Where results live: `store/<stage>/<key>/`, made once, published by one rename, checked by digest when reused.

While a result is being made it is `<key>.partial` under a kernel lock; the name is deterministic, so a killed run
goes on there. Clocks and hosts are in `timing.json`; all else is the same bytes however often it was interrupted.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import platform
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from cai_lightning.experiment.digest import file_digest, json_digest
from cai_lightning.experiment.errors import UserError

MANIFEST, TIMING, ORIGIN = "manifest.json", "timing.json", ".origin.json"
PACKAGES = ("torch", "transformers", "lightning", "peft", "numpy", "tokenizers")
VERIFY_UP_TO = 256 * 2**20
log = logging.getLogger("cai")


@dataclass(frozen=True)
class Built:
    """An artifact: where it lies, the seconds it took when it was made, and whether it was there already."""

    path: Path
    seconds: float
    reused: bool


@cache
def environment() -> dict[str, Any]:
    """Versions and kind of machine: a `.partial` begun elsewhere starts anew."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {"python": platform.python_version(), "machine": platform.machine(), "packages": versions}


class Store:
    """Artifacts below `root`, named `<stage>/<key>`."""

    def __init__(self, root: Path):
        self.root = root

    def path(self, stage: str, key: str) -> Path:
        """Where the artifact lies, or will lie."""
        return self.root / stage / key

    def manifest(self, stage: str, key: str) -> dict[str, Any] | None:
        """The manifest of a finished artifact, or None."""
        try:
            return json.loads((self.path(stage, key) / MANIFEST).read_text(encoding="utf-8"))  # type: ignore[no-any-return]
        except (FileNotFoundError, NotADirectoryError):
            return None

    def timing(self, stage: str, key: str) -> dict[str, Any]:
        """Seconds, host and memory of the run that made an artifact; empty when unknown."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.path(stage, key) / TIMING).read_text(encoding="utf-8"))  # type: ignore[no-any-return]
        return {}

    def build(self, stage: str, key: str, about: dict[str, Any], make: Callable[[Path], None]) -> Built:
        """The artifact, made by `make(folder)` unless it is there. Two processes that want it make it once."""
        if (found := self._reuse(stage, key)) is not None:
            return found
        final = self.path(stage, key)
        final.parent.mkdir(parents=True, exist_ok=True)
        with self._lock(stage, key):
            if (found := self._reuse(stage, key)) is not None:
                return found
            partial = _open_partial(final.with_name(f"{key}.partial"))
            started, cpu = time.perf_counter(), time.process_time()
            make(partial)
            seconds = round(time.perf_counter() - started, 3)
            timing = {
                "seconds": seconds,
                "cpu_seconds": round(time.process_time() - cpu, 3),
                "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                "host": platform.node(),
                "cpus": os.cpu_count(),
                "threads": os.environ.get("OMP_NUM_THREADS"),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            }
            _publish(partial, final, about, timing)
            return Built(final, seconds, reused=False)

    def _reuse(self, stage: str, key: str) -> Built | None:
        manifest = self.manifest(stage, key)
        if manifest is None:
            return None
        path = self.path(stage, key)
        if broken := damage(path, manifest):
            log.warning("%s/%s: %s no longer has the bytes that were written; making it anew", stage, key, broken)
            shutil.rmtree(path)
            return None
        return Built(path, float(self.timing(stage, key).get("seconds", 0.0)), reused=True)

    @contextlib.contextmanager
    def _lock(self, stage: str, key: str) -> Iterator[None]:
        """A kernel lock on the key: it ends with its process, so nothing stale can stay."""
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / f"{stage}-{key}").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("%s/%s: another process is making it; waiting", stage, key)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def find(self, prefix: str) -> tuple[str, str]:
        """Stage and key of the one artifact whose key starts with `prefix` (`stage/key` is understood too)."""
        wanted = prefix.rpartition("/")[2]
        hits = [(stage, key) for stage, key in self.all() if key.startswith(wanted)]
        if len(hits) == 1:
            return hits[0]
        problem = "no artifact" if not hits else f"{len(hits)} artifacts"
        raise UserError(f"{prefix}: {problem} under {self.root} with this key; `cai ls` lists them")

    def discard(self, stage: str, key: str) -> None:
        """Removes an artifact, finished or begun."""
        for path in (self.path(stage, key), self.path(stage, f"{key}.partial")):
            shutil.rmtree(path, ignore_errors=True)

    def all(self) -> list[tuple[str, str]]:
        """Stage and key of every finished artifact."""
        return sorted((path.parent.parent.name, path.parent.name) for path in self.root.glob(f"*/*/{MANIFEST}"))

    def leftovers(self) -> list[Path]:
        """Folders of results that were begun and not finished."""
        return sorted(self.root.glob("*/*.partial"))


def damage(path: Path, manifest: dict[str, Any]) -> str | None:
    """The first file that is missing or differs from the manifest's digest (size alone above 256 MiB), or None."""
    for name, fact in manifest["files"].items():
        file = path / name
        if not file.is_file() or file.stat().st_size != fact["bytes"]:
            return str(name)
        if fact["bytes"] <= VERIFY_UP_TO and file_digest(file) != fact["sha256"]:
            return str(name)
    return None


def _open_partial(partial: Path) -> Path:
    """The folder to work in: the one that a killed run left, unless another machine or version began it."""
    origin = json_digest(environment())
    mark = partial / ORIGIN
    if partial.exists() and (not mark.exists() or json.loads(mark.read_text())["environment"] != origin):
        shutil.rmtree(partial)
    if not partial.exists():
        partial.mkdir(parents=True)
        mark.write_text(json.dumps({"environment": origin}))
    return partial


def _publish(partial: Path, final: Path, about: dict[str, Any], timing: dict[str, Any]) -> None:
    (partial / ORIGIN).unlink()
    files = sorted(p for p in partial.rglob("*") if p.is_file())
    facts = {str(p.relative_to(partial)): {"sha256": file_digest(p), "bytes": p.stat().st_size} for p in files}
    manifest = {"schema": 1, **about, **environment(), "files": facts}
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (partial / TIMING).write_text(json.dumps(timing, indent=1) + "\n", encoding="utf-8")
    for file in (*files, partial / MANIFEST, partial / TIMING, partial):
        _sync(file)
    os.replace(partial, final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
