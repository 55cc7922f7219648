"""A file of lines that is read while it grows."""

from __future__ import annotations

from pathlib import Path


class Tail:
    """New whole lines of a growing file. One that is cut back must grow again by the same bytes: they are read once."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0

    def move(self, path: Path) -> None:
        """Goes on in the file's new place."""
        self._path = path

    def lines(self) -> list[str]:
        """The lines that were finished since the last call; none where there is no file."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                new = file.read()
        except FileNotFoundError:
            return []
        whole = new[: new.rfind(b"\n") + 1]
        self._at += len(whole)
        return whole.decode("utf-8").splitlines()
