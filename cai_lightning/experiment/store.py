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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cai_lightning.experiment.artifact import MANIFEST, PARTIAL, TIMING, damage, open_partial, publish
from cai_lightning.experiment.digest import json_digest
from cai_lightning.experiment.errors import UserError

log = logging.getLogger("cai")


@dataclass(frozen=True)
class Built:
    """An artifact: where it lies, the seconds it took when it was made, and whether it was there already."""

    path: Path
    seconds: float
    reused: bool


class Store:
    """Artifacts below `root`, named `<stage>/<key>`."""

    def __init__(self, root: Path):
        self.root = root

    def path(self, stage: str, key: str) -> Path:
        """Where the artifact lies, or will lie."""
        return self.root / stage / key

    def manifest(self, stage: str, key: str) -> dict[str, Any] | None:
        """The manifest of a finished artifact; None where there is none that can be read."""
        try:
            return json.loads((self.path(stage, key) / MANIFEST).read_text(encoding="utf-8"))  # type: ignore[no-any-return]
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def content(self, stage: str, key: str) -> str | None:
        """A digest of a finished artifact's bytes, or None."""
        manifest = self.manifest(stage, key)
        return None if manifest is None else json_digest(manifest["files"])[:16]

    def timing(self, stage: str, key: str) -> dict[str, Any]:
        """Seconds, host and memory of the run that made an artifact; empty when unknown."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.path(stage, key) / TIMING).read_text(encoding="utf-8"))  # type: ignore[no-any-return]
        return {}

    def build(
        self, stage: str, key: str, about: dict[str, Any], make: Callable[[Path], Mapping[str, Any] | None]
    ) -> Built:
        """The artifact, made by `make(folder)` unless it is there; what that may return goes into its timing.

        Two processes that want an artifact make it once.
        """
        if (found := self._reuse(stage, key)) is not None:
            return found
        final = self.path(stage, key)
        final.parent.mkdir(parents=True, exist_ok=True)
        with self._lock(stage, key, wait=True):
            if (found := self._reuse(stage, key)) is not None:
                return found
            if final.exists():
                broken = damage(final, self.manifest(stage, key))
                log.warning("%s/%s: %s no longer has the bytes that were written; making it anew", stage, key, broken)
                shutil.rmtree(final)
            partial = open_partial(final.with_name(key + PARTIAL), about)
            started, cpu = time.perf_counter(), time.process_time()
            more = make(partial) or {}
            seconds = round(time.perf_counter() - started, 3)
            timing = {
                "seconds": seconds,
                "cpu_seconds": round(time.process_time() - cpu, 3),
                "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                "host": platform.node(),
                "cpus": os.cpu_count(),
                "threads": os.environ.get("CAI_THREADS"),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                **more,
            }
            publish(partial, final, about, timing)
            return Built(final, seconds, reused=False)

    def _reuse(self, stage: str, key: str) -> Built | None:
        path = self.path(stage, key)
        if damage(path, self.manifest(stage, key)) is not None:
            return None
        return Built(path, float(self.timing(stage, key).get("seconds", 0.0)), reused=True)

    @contextlib.contextmanager
    def _lock(self, stage: str, key: str, *, wait: bool) -> Iterator[bool]:
        """A kernel lock on the key, and whether it was got: it ends with its process, so nothing stale can stay."""
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / f"{stage}-{key}").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    yield False
                    return
                log.info("%s/%s: another process is making it; waiting", stage, key)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield True

    def remove(self, path: Path) -> bool:
        """Removes an artifact's folder, finished or begun, unless a process works on it; whether it did."""
        with self._lock_of(path, wait=False) as mine:
            if mine:
                shutil.rmtree(path)
            return mine

    def discard(self, path: Path, *, still: Callable[[], bool]) -> None:
        """Removes an artifact's folder once no process works on it, if then `still` holds."""
        with self._lock_of(path, wait=True):
            if still():
                shutil.rmtree(path)

    def busy(self, path: Path) -> bool:
        """Whether a process works on an artifact."""
        with self._lock_of(path, wait=False) as mine:
            return not mine

    def _lock_of(self, path: Path, *, wait: bool) -> contextlib.AbstractContextManager[bool]:
        return self._lock(path.parent.name, path.name.removesuffix(PARTIAL), wait=wait)

    def find(self, prefix: str) -> tuple[str, str]:
        """Stage and key of the one artifact whose key starts with `prefix` (`stage/key` is understood too)."""
        stage_wanted, _, wanted = prefix.strip("/").rpartition("/")
        hits = [
            (stage, key)
            for stage, key in self.all()
            if key.startswith(wanted) and stage_wanted.rpartition("/")[2] in ("", stage)
        ]
        if len(hits) == 1:
            return hits[0]
        problem = "no artifact" if not hits else f"{len(hits)} artifacts"
        raise UserError(f"{prefix}: {problem} under {self.root} with this key; `cai ls` lists them")

    def all(self) -> list[tuple[str, str]]:
        """Stage and key of every finished artifact."""
        found = (path.parent for path in self.root.glob(f"*/*/{MANIFEST}"))
        return sorted((path.parent.name, path.name) for path in found if path.suffix != PARTIAL)

    def leftovers(self) -> list[Path]:
        """Folders of results that were begun and not finished, or removed in part."""
        folders = (path for path in self.root.glob("*/*") if path.is_dir())
        return sorted(path for path in folders if path.suffix == PARTIAL or not (path / MANIFEST).is_file())
