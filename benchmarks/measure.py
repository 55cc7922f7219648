"""One measurement: a task called with its settings in a process of its own, one JSON line of what it took.

Both sides use this file, so it knows neither the package nor a peer.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Task = Callable[..., dict[str, Any]]
"""(folder of the work, settings) -> seconds, what was worked on, and further figures."""

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "WANDB_DISABLED": "true",
}
_ROWS, _IN, _OUT = 1024, 448, 1216  # of the matrices that calibrate: those of the larger model's feed-forward layers
_TRIES, _TIMES = 14, 8  # blocks, products in each


def main(tasks: Mapping[str, Task]) -> None:
    """Runs `TASK work=FOLDER key=value ...`; values are JSON, or else text. Whatever the task prints goes to stderr."""
    name, *settings = sys.argv[1:]
    given = dict(text.split("=", 1) for text in settings)
    folder = Path(given.pop("work"))
    with os.fdopen(os.dup(1), "w") as reply:
        os.dup2(2, 1)
        found = tasks[name](folder, **{key: _value(text) for key, text in given.items()})
        found["rss_mb"] = peak_rss_mb()
        found["versions"] = versions()
        found["calibration"] = matmul_rates()
        reply.write(json.dumps(found) + "\n")


def one_thread() -> None:
    """Gives torch one thread."""
    import torch

    torch.set_num_threads(1)


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """The processor seconds of a call, and what it returned."""
    start = time.process_time()
    found = call()
    return time.process_time() - start, found


def matmul_rates() -> dict[str, float]:
    """GFLOP/s of this core right now in matrix products as torch does them by default, by number format: medians."""
    import torch

    settings: Any = torch.backends.mkldnn
    before, settings.matmul.fp32_precision = settings.matmul.fp32_precision, "none"
    tries: dict[str, list[float]] = {name: [] for name in ("float32", "bfloat16")}
    for name in (*tries,) * _TRIES:
        left, right = (torch.randn(rows, _IN).to(getattr(torch, name)) for rows in (_ROWS, _OUT))
        tries[name].append(seconds(partial(_products, left, right))[0])
    settings.matmul.fp32_precision = before
    work = _TIMES * 2 * _ROWS * _IN * _OUT / 1e9
    return {name: work / statistics.median(spent[2:]) for name, spent in tries.items()}


def _products(left: Any, right: Any) -> None:
    from torch.nn.functional import linear

    for _ in range(_TIMES):
        linear(left, right)


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that either side rests on, where they are installed."""
    found = {"python": platform.python_version()}
    for name in ("torch", "transformers", "trl", "peft", "accelerate", "lightning"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def forward_flops(model: Path, lengths: Iterable[int]) -> float:
    """FLOPs of one pass over texts of so many tokens: linear layers, causal attention and head; pads do not count."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    linear = 2 * layers * (4 * width**2 + 3 * width * config["intermediate_size"]) + 2 * width * config["vocab_size"]
    return float(sum(linear * length + 2 * layers * width * length * (length + 1) for length in lengths))


def peak_rss_mb() -> float:
    """The largest resident memory of this process so far; `ru_maxrss` may be that of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(fields["VmHWM"].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
