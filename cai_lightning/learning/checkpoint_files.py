"""Checkpoint files that are whole or not there: written beside, synced, renamed; read only where their digest holds."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from lightning.pytorch.plugins import CheckpointIO

SUFFIX, DIGEST = ".ckpt", ".sha256"
_NEW = ".new"

log = logging.getLogger("cai")


class WholeFiles(CheckpointIO):  # type: ignore[misc]
    """Writes checkpoints by `write` and reads tensors and plain values alone.

    Lightning's own writer makes its file in the temporary folder, which may be another file system, and does not sync:
    a killed process then leaves a torn file under the final name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ARG002
        write(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:  # noqa: ARG002
        found: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        return found

    def remove_checkpoint(self, path: Any) -> None:
        remove(Path(path))


def write(state: dict[str, Any], path: Path) -> None:
    """A checkpoint at `path` with its digest beside it; older ones in its folder go when it has been read back.

    Whatever fails, a disk that is full for one, leaves the older ones as they were, and nothing half-written; what a
    killed process had half-written goes first. Raises OSError where other bytes are read than were written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"*{_NEW}"):
        left.unlink()
    new = path.with_name(path.name + _NEW)
    try:
        with new.open("wb") as file:
            passed = _Hashed(file)
            torch.save(state, cast(IO[bytes], passed))
            _synced(file)
        if _digest(new) != passed.hash.hexdigest():
            raise OSError(f"{new}: not the bytes that were written are read back; look at the disk")
        with path.with_suffix(DIGEST).open("w", encoding="ascii") as file:
            file.write(passed.hash.hexdigest())
            _synced(file)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)
    for older in path.parent.glob(f"*{SUFFIX}"):
        if older != path:
            remove(older)


def newest(folder: Path) -> Path | None:
    """The last checkpoint in a folder whose bytes are those that were written; None where there is none."""
    for path in sorted(folder.glob(f"*{SUFFIX}"), reverse=True):
        digest = path.with_suffix(DIGEST)
        if digest.exists() and digest.read_text(encoding="ascii") == _digest(path):
            return path
        log.warning("%s: not the bytes that were written; it is passed over", path)
    return None


def remove(path: Path) -> None:
    """Removes a checkpoint and its digest."""
    path.unlink(missing_ok=True)
    path.with_suffix(DIGEST).unlink(missing_ok=True)


class _Hashed:
    """A file to write to, and the digest of what passed through."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _synced(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
