"""One artifact's folder: begun, published by one rename with a manifest of its bytes, checked against it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from cai_lightning.experiment.digest import file_digest, json_digest

MANIFEST, TIMING, ORIGIN = "manifest.json", "timing.json", ".origin.json"
PARTIAL = ".partial"
WORK = ".work"  # what a stage needs to go on and nobody needs afterwards
PACKAGES = ("torch", "transformers", "lightning", "peft", "numpy", "tokenizers")
VERIFY_UP_TO = 256 * 2**20


@cache
def environment() -> dict[str, Any]:
    """Versions and kind of machine: a `.partial` begun elsewhere starts anew."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {"python": platform.python_version(), "machine": platform.machine(), "packages": versions}


def damage(path: Path, manifest: dict[str, Any] | None) -> str | None:
    """The first file that is missing or differs from the manifest's digest (size alone above 256 MiB), or None."""
    if manifest is None:
        return MANIFEST
    for name, fact in manifest["files"].items():
        file = path / name
        if not file.is_file() or file.stat().st_size != fact["bytes"]:
            return str(name)
        if fact["bytes"] <= VERIFY_UP_TO and file_digest(file) != fact["sha256"]:
            return str(name)
    return None


def open_partial(partial: Path, about: dict[str, Any]) -> Path:
    """The folder to work in: the one that a killed run left, unless another machine, version or source began it."""
    origin = json.dumps({"environment": json_digest(environment()), "code": about.get("code")})
    mark = partial / ORIGIN
    if partial.exists() and (not mark.exists() or mark.read_text(encoding="utf-8") != origin):
        shutil.rmtree(partial)
    if not partial.exists():
        partial.mkdir(parents=True)
        mark.write_text(origin, encoding="utf-8")
    return partial


def publish(partial: Path, final: Path, about: dict[str, Any], timing: dict[str, Any]) -> None:
    """Writes manifest and timing, syncs all, and renames `partial` to `final`; what lies under `WORK` goes."""
    ours = {partial / name for name in (ORIGIN, MANIFEST, TIMING)}
    work = partial / WORK
    files = sorted(p for p in partial.rglob("*") if p.is_file() and p not in ours and work not in p.parents)
    manifest = {"schema": 1, **about, **environment(), "files": {str(p.relative_to(partial)): _fact(p) for p in files}}
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (partial / TIMING).write_text(json.dumps(timing, indent=1) + "\n", encoding="utf-8")
    for file in (*files, partial / MANIFEST, partial / TIMING, partial):
        _sync(file)
    shutil.rmtree(work, ignore_errors=True)
    (partial / ORIGIN).unlink()
    os.replace(partial, final)
    _sync(final.parent)


def _fact(file: Path) -> dict[str, Any]:
    """Digest and size of a file, and the number of rows of a JSONL file."""
    fact: dict[str, Any] = {"sha256": file_digest(file), "bytes": file.stat().st_size}
    if file.suffix == ".jsonl":
        with file.open("rb") as lines:
            fact["rows"] = sum(1 for _ in lines)
    return fact


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
