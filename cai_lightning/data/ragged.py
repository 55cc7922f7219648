"""Many short sequences of numbers in one file that is read as memory: rows cost what their numbers take."""

from __future__ import annotations

import tempfile
import weakref
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

SMALL = 1 << 16


class Ragged(Sequence[NDArray[Any]]):
    """Sequences that are appended one by one and read as arrays that lie in the file.

    The file has no name: it goes when nobody reads it any more, also after a kill. `folder` is where it takes room,
    null the system's place for temporary files.
    """

    def __init__(self, dtype: Any, *, folder: Path | None = None) -> None:
        self._dtype = np.dtype(dtype)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as the rows
        weakref.finalize(self, self._file.close)  # views of it live on
        self._ends = array("q", [0])
        self._memory: NDArray[Any] | None = None

    def append(self, numbers: Sequence[float] | NDArray[Any]) -> None:
        """Adds one sequence."""
        self._file.write(np.asarray(numbers, self._dtype).tobytes())
        self._ends.append(self._ends[-1] + len(numbers))
        self._memory = None

    def extend(self, sequences: Iterable[Sequence[float]]) -> None:
        """Adds sequences."""
        for numbers in sequences:
            self.append(numbers)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, number: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[NDArray[Any]]: ...
    def __getitem__(self, number: int | slice) -> NDArray[Any] | Sequence[NDArray[Any]]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        if self._memory is None:
            self._file.flush()
            empty = self._ends[-1] == 0
            self._memory = np.zeros(0, self._dtype) if empty else np.memmap(self._file, self._dtype, mode="r")
        return self._memory[self._ends[number] : self._ends[number + 1]]

    def lengths(self) -> list[int]:
        """How long each sequence is."""
        found: list[int] = np.diff(np.frombuffer(self._ends, np.int64)).tolist()
        return found


def id_type(vocabulary: int) -> type[np.generic]:
    """The smallest integers that hold the ids of a vocabulary."""
    return np.uint16 if vocabulary <= SMALL else np.uint32
