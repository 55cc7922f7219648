"""Content digests of files and folders, with a small cache keyed by path, size and modification time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cai_lightning.experiment.errors import UserError


def text_digest(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def json_digest(value: Any) -> str:
    """SHA-256 of a JSON value, independent of key order. Floats enter by their shortest exact form."""
    return text_digest(json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False))


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def visible_files(folder: Path) -> list[Path]:
    """The files below a folder that are not hidden, nor in a hidden folder: tools keep clocks and caches there."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


class Digests:
    """Digests of outside files and folders. `cache` is a JSON file; it holds facts about paths, never results."""

    def __init__(self, cache: Path):
        self.cache = cache
        try:
            self.known: dict[str, list[Any]] = json.loads(cache.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.known = {}
        self.saved = dict(self.known)

    def of(self, path: Path, key: str) -> str:
        """The digest of a file, or of a folder's relative names and contents. `key` names the config leaf in errors."""
        if path.is_file():
            return self._file(path)
        if path.is_dir():
            files = visible_files(path)
            if not files:
                raise UserError(f"{key}: the folder {path} is empty; give a folder with files")
            return json_digest([[str(p.relative_to(path)), self._file(p)] for p in files])
        raise UserError(f"{key}: no file or folder {path}; give an existing path")

    def _file(self, path: Path) -> str:
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        name = os.path.abspath(path)
        if self.known.get(name, [None])[:2] != stamp:
            self.known[name] = [*stamp, file_digest(path)]
        return str(self.known[name][2])

    def save(self) -> None:
        """Writes the cache, if it has changed and its folder can be written: it only saves time."""
        if self.known != self.saved and self.cache.parent.is_dir():
            temporary = self.cache.with_suffix(f".{os.getpid()}")
            with contextlib.suppress(OSError):
                temporary.write_text(json.dumps(self.known), encoding="utf-8")
                temporary.replace(self.cache)
