"""What is no recipe: the run's name and this machine's settings, checked here, handed to stages by the environment."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from cai_lightning.experiment.errors import UserError, nearest
from cai_lightning.experiment.targets import check_value

NAME = re.compile(r"[A-Za-z0-9._-]+")
DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
# Rounds that a waiting OpenMP thread spins; measured in docs/decisions/017-threads.md.
_SPIN, _SPIN_LITTLE = "100000", "1000"
_AUTO = "CAI_THREADS_AUTO"
RUNTIME: dict[str, Any] = {
    "outputs": str,
    "device": str,
    "threads": int | Literal["auto"],
    "progress": Literal["auto", "bar", "lines", "off"],
    "online": bool,
    "isolate": bool,
    "checkpoint_share": float,
    "on_code_change": Literal["warn", "rebuild"],
    "allow_targets": list[str],
    "wandb.mode": Literal["offline", "online", "disabled"],
    "wandb.project": str,
    "wandb.group": str | None,
    "wandb.upload": Literal["manifests", "files"],
    "wandb.samples": int,
    "wandb.patience": float,
}


def check_config(config: DictConfig) -> None:
    """Raises UserError on a wrong value outside the stages, where nothing has a signature."""
    for key, annotation in RUNTIME.items():
        value = OmegaConf.select(config, f"runtime.{key}")
        value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        check_value(value, annotation, f"runtime.{key}")
    if not DEVICE.fullmatch(device := config.runtime.device):
        raise UserError(f"runtime.device: {device!r} given, but auto, cpu, cuda, cuda:N or mps is wanted")
    if config.runtime.threads != "auto" and config.runtime.threads < 1:
        raise UserError(f"runtime.threads: {config.runtime.threads} given, but at least 1 is wanted")
    if not 0 <= config.runtime.checkpoint_share < math.inf:
        raise UserError(f"runtime.checkpoint_share: {config.runtime.checkpoint_share} given, but at least 0 is wanted")
    for key in ("samples", "patience"):
        if not 0 <= config.runtime.wandb[key] < math.inf:
            raise UserError(f"runtime.wandb.{key}: {config.runtime.wandb[key]} given, but at least 0 is wanted")
    if "_target_" not in config.report:
        raise UserError("report: needs _target_, the function that a run ends with")
    for key in ("name", "sweep"):
        name = str(config.get(key, "run"))
        if not NAME.fullmatch(name):
            raise UserError(f"{key}: {name!r} names a folder; use letters, digits, dot, dash and underscore")
    known = [str(slot) for slot in config.stages]
    for slot in config.get("joint", []):
        if slot not in known:
            raise UserError(f"joint: no stage {slot!r}.{nearest(str(slot), known)}")


def check_writable(outputs: Path) -> None:
    """Raises UserError unless a run may write below `outputs`; makes nothing."""
    folder = existing(outputs)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"runtime.outputs: cannot write below {folder}; give a folder that is yours to write")


def check_device(device: str) -> None:
    """Raises UserError where a device that is asked for by name is not there. Loads torch unless it is the CPU."""
    if device in ("auto", "cpu"):
        return
    import torch

    kind, _, number = device.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else int(torch.backends.mps.is_available())
    if int(number or 0) >= count:
        raise UserError(
            f"runtime.device: {device!r} given, but torch {torch.__version__} sees {count} such devices here; "
            "take runtime.device=auto, or a torch build and driver for it"
        )


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def threads_of(wanted: int | str) -> str:
    """What stages are told of threads: a number, or "auto" where nobody asks for one; OMP_NUM_THREADS does, where a
    launcher has set it.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    if wanted != "auto" or _AUTO in os.environ:
        return str(wanted)
    return given if given.isdigit() and int(given) else "auto"


def enter_session(config: DictConfig) -> None:
    """Tells stages about this machine through the environment: whatever changes no number."""
    runtime = config.runtime
    threads = threads_of(runtime.threads)
    if threads == "auto":
        os.environ[_AUTO] = "1"  # the number below is then ours and asks for nothing
    # A thread that waits for another must not spin for long: on a busy core that one waits for it. Where busy cores are
    # noticed it may for a moment, which waking it would take too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", _SPIN if threads == "auto" else _SPIN_LITTLE)
    os.environ.update(
        CAI_DEVICE=str(runtime.device),
        CAI_THREADS=threads,
        CAI_CHECKPOINT_SHARE=str(runtime.checkpoint_share),
        CAI_PROGRESS=str(runtime.progress),
        OMP_NUM_THREADS="1" if threads == "auto" else threads,
        CAI_ISOLATE="1" if runtime.isolate else "0",
        HF_HUB_OFFLINE="0" if runtime.online else "1",
        TOKENIZERS_PARALLELISM="false",
    )
