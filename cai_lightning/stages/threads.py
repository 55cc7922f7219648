"""How many threads torch takes: as many as the cores that others leave idle, looked at again while a stage works.

Two threads on two idle cores are up to 1.8 times as fast as one; where another process wants one of the cores, all who
wait for each other are many times slower. In the micro-world one and two threads give the same bits.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

MOST = 2  # threads taken unasked; more were not measured
_STAT = Path("/proc/stat")
_FIRST, _EVERY = 0.05, 1.0  # seconds between two looks: at first, and later
_SLACK = 0.3  # of a core, which others may use while it counts as idle
_IDLE = (3, 4)  # the columns of a core's line that count idle time; the last two stand in others already
_COUNTED = 8


class Look(NamedTuple):
    """Seconds so far: of the clock, of the processor for all processes on our cores, and for this process."""

    clock: float
    busy: float
    own: float


_last: Look | None = None


def ease() -> None:
    """Gives torch the number of threads that fits; does nothing where the last look is less than a second old.

    CAI_THREADS says how many are wanted; "auto" is two at most, and one where nobody says whether cores are idle. To be
    called by the thread that calls torch.
    """
    global _last
    wanted = os.environ.get("CAI_THREADS", "1")
    import torch

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        number = 1  # several processes of one fit
    elif wanted != "auto":
        number = int(wanted)
    elif (before := _last) is not None and time.perf_counter() - before.clock < _EVERY:
        return
    else:
        if before is None and (before := look()) is not None:
            time.sleep(_FIRST)
        _last = look()
        number = 1 if before is None or _last is None else fitting(before, _last, cores=len(_cores()))
    if torch.get_num_threads() != number:
        torch.set_num_threads(number)


def fitting(before: Look, after: Look, *, cores: int) -> int:
    """The threads that fit beside what other processes did between two looks."""
    others = ((after.busy - before.busy) - (after.own - before.own)) / (after.clock - before.clock)
    return max(1, min(MOST, int(cores - others + _SLACK)))


def look() -> Look | None:
    """The seconds so far, None where the system does not say."""
    if not _STAT.exists():
        return None
    names = {f"cpu{core}" for core in _cores()}
    busy = 0
    for line in _STAT.read_text(encoding="ascii").splitlines():
        name, *counts = line.split()
        if name in names:
            busy += sum(int(count) for place, count in enumerate(counts[:_COUNTED]) if place not in _IDLE)
    return Look(time.perf_counter(), busy / os.sysconf("SC_CLK_TCK"), time.process_time())


def _cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
