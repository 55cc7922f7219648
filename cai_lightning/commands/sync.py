"""`cai sync [PATH ...]`: send to Weights & Biases what runs have logged offline, and what they could not log."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cai_lightning.commands.workspace import Workspace

TOGETHER = 32  # folders in one call of `wandb sync`


def main(arguments: list[str], workspace: Workspace) -> int:
    """Exit code 1 where something is still to be sent."""
    parser = argparse.ArgumentParser(
        prog="cai sync",
        description="Runs that are under way are left alone. Nothing is sent twice, so it may be repeated.",
    )
    parser.add_argument("paths", metavar="PATH", nargs="*", type=Path, help="folders of runs or sweeps; without: all")
    parser.add_argument("--dry-run", action="store_true", help="say what would be sent, log and send nothing")
    given = parser.parse_args(arguments)
    roots = given.paths or [workspace.outputs / "runs", workspace.outputs / "sweeps"]
    if missing := [path for path in given.paths if not path.is_dir()]:
        raise ValueError(f"{missing[0]}: no such folder; name the folder of a run or sweep, or none for all")
    folders = found(roots)
    waiting = [path for folder in folders for path in to_send(folder, log=not given.dry_run)]
    if given.dry_run or not waiting:
        print(f"{len(folders)} runs with W&B logs: {len(waiting)} W&B runs to send")
        for path in waiting:
            print(f"  {path}")
        return 0
    left = send(waiting, seconds=float(workspace.value("runtime.wandb.patience")))
    print(f"{len(waiting) - len(left)} of {len(waiting)} W&B runs sent")
    if left:
        print(f"not sent: {left[0]} and {len(left) - 1} more; the same command tries again", file=sys.stderr)
    return int(bool(left))


def found(roots: Sequence[Path]) -> list[Path]:
    """The folders of runs and sweeps at or below these that have told W&B something, oldest first, each once."""
    from cai_lightning.report.tracker import EVENTS, PLACE

    files = {file.absolute() for root in roots for file in root.rglob(f"{PLACE}/{EVENTS}")}
    return sorted(file.parent.parent for file in files)


def to_send(folder: Path, *, log: bool) -> list[Path]:
    """The W&B runs of a run's folder that W&B does not have. With `log` what was not logged is logged offline first.

    None of a run that is still going on.
    """
    from cai_lightning.report.tracker import PLACE, alone, follow, wanted
    from cai_lightning.report.wandb_runs import done, is_sent

    with alone(folder) as free:  # not while another process writes there
        if not free:
            print(f"{folder}: still being logged, left alone")
            return []
        before = len(done(folder / PLACE))
        if not log:
            missing = wanted(folder) - {line["id"] for line in done(folder / PLACE)}
            print(f"{folder}: {len(missing)} W&B runs to log from its files")
        else:
            follow(folder, lambda warning, _: print(f"{folder}: {warning}"), iter([False]), offline=True)
        known = done(folder / PLACE)
        if len(known) > before:
            print(f"{folder}: {len(known) - before} W&B runs logged from its files")
    return [path for line in known if not is_sent(path := folder / PLACE / line["folder"], line)]


def send(folders: Sequence[Path], *, seconds: float) -> list[Path]:
    """Hands W&B runs to `wandb sync`; those that it could not send.

    Raises ValueError where W&B does not answer within so many seconds: `wandb sync` would try for long.
    """
    from cai_lightning.report.wandb_runs import ask, base_url, is_synced

    try:
        ask(base_url(), seconds)
    except OSError as error:
        raise ValueError(f"W&B does not answer ({error}); {len(folders)} W&B runs wait: repeat it later") from None
    for start in range(0, len(folders), TOGETHER):
        some = [str(path) for path in folders[start : start + TOGETHER]]
        subprocess.run([sys.executable, "-m", "wandb", "sync", "--include-online", *some], check=False)
    return [path for path in folders if not is_synced(path)]
