"""The process of one stage: reads what to call from stdin, calls it, and replies on what was its stdout.

    python -m cai_lightning.experiment.worker       started by `launch`, not by hand

Whatever the stage prints goes to stderr. The process ends when its stdin does: a run that was killed leaves nothing
behind that writes.
"""

from __future__ import annotations

import logging
import os
import pickle
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, BinaryIO

from cai_lightning.experiment.errors import one_line
from cai_lightning.experiment.targets import construct, locate

UNTIL = "CAI_END_WITH_STDIN"  # set for a `cai run` that is to end so
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """SIGINT or SIGTERM arrived; no KeyboardInterrupt, which Lightning would swallow."""


def main() -> None:
    """Makes one artifact; exits with 1 after an error, with 128 + N after signal N."""
    for number in SIGNALS:
        signal.signal(number, _stop)
    try:
        with os.fdopen(os.dup(1), "wb") as reply:
            os.dup2(2, 1)
            code = _work(reply)
    except Stopped as stop:
        code = 128 + int(stop.args[0])
    sys.exit(code)


def _work(reply: BinaryIO) -> int:
    logging.basicConfig(format="%(message)s")
    logging.getLogger("cai").setLevel(logging.INFO)
    folder, target, values = pickle.load(sys.stdin.buffer)
    threading.Thread(target=end_with_parent, daemon=True).start()
    said: dict[str, Any]
    try:
        _call(folder, target, values)
        said = usage()
    except Exception as error:
        said = {"error": one_line(error), "trace": traceback.format_exc()}
    pickle.dump(said, reply)
    return int("error" in said)


def _call(folder: Path, target: str, values: dict[str, Any]) -> None:
    """Calls the stage; a stage that ends its process without an error has done its part."""
    try:
        locate(target)(folder, **construct(values))
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"the stage ended its process with code {end.code}") from None


def usage() -> dict[str, Any]:
    """Processor seconds and largest memory of this process, for timing.json."""
    used: dict[str, Any] = {"cpu_seconds": time.process_time(), "peak_rss_mb": _peak_rss_mb()}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        used["peak_gpu_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return used


def _peak_rss_mb() -> int:
    """The largest resident memory; `ru_maxrss` alone would be that of the parent, where it was larger."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return round(int(fields["VmHWM"].split()[0]) / 1024)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def end_with_parent() -> None:
    """Ends this process when its stdin does."""
    # not sys.stdin, whose lock a thread must not hold when the interpreter ends
    os.read(0, 1)
    os._exit(1)


def _stop(number: int, _: Any) -> None:
    for every in SIGNALS:
        signal.signal(every, signal.SIG_IGN)
    raise Stopped(number)


if __name__ == "__main__":
    main()
