"""Stages for tests of `launch`: what a worker process can be made to do."""

import os
import signal
import sys
import time
from pathlib import Path


def write(out: Path, *, text: str, source: Path) -> None:
    print("printed by a stage")
    (out / "file").write_text(text + source.name + os.environ.get("RANK", "") + str(os.getpid() > 0))


def fail(_out: Path, *, text: str) -> None:
    raise ValueError(f"{text}: this is wrong")


def unforeseen(_out: Path) -> None:
    raise KeyError("k")


def die(_out: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(_out: Path) -> None:
    sys.exit(0)


def sleep(out: Path) -> None:
    (out / "pid").write_text(str(os.getpid()))
    time.sleep(60)


def ranks(out: Path, *, fit: object) -> None:  # noqa: ARG001
    """The second process fails, and the first would wait for it for ever."""
    (out / os.environ["RANK"]).write_text(os.environ["WORLD_SIZE"] + os.environ["MASTER_ADDR"])
    if os.environ["RANK"] == "1":
        while not (Path(os.environ["CAI_CHECKPOINTS"]).parent / "0").exists():
            time.sleep(0.01)
        raise ValueError("rank 1 is wrong")
    time.sleep(60)


def both(out: Path, *, fit: object) -> None:  # noqa: ARG001
    (out / f"rank{os.environ['RANK']}").write_text(os.environ["CAI_PROGRESS"])


def devices(*, devices: int) -> int:
    return devices
