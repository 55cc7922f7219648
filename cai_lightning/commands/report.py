"""`cai report PATH...`: finished runs and sweeps as one page to explore, with figures as PNG, tables as CSV."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from cai_lightning.commands.workspace import Workspace

LONGEST = 80  # characters of a name that is made from those of the runs


def main(arguments: list[str], workspace: Workspace) -> int:
    """Exit code 0."""
    given = _parser().parse_args(arguments)
    for option, count in (("--transcripts", given.transcripts), ("--characters", given.characters)):
        if count < 0:
            raise ValueError(f"{option}: must not be negative, is {count}")
    from cai_lightning.report.finished import read_all
    from cai_lightning.report.joined import apart, join
    from cai_lightning.report.joined_files import write_all

    runs = read_all([Path(path).expanduser() for path in given.paths], workspace.outputs)
    name = given.name or " + ".join(run.label for run in runs)[:LONGEST]
    joined = join(runs, name, prompts=given.transcripts, characters=given.characters)
    folder = Path(given.out).expanduser() if given.out else workspace.outputs / "reports" / _file_name(name)
    files = write_all(joined, folder)
    shown, total = len(joined.texts["prompts"]), joined.texts["total"]
    print(f"{len(runs)} runs and sweeps, {len(joined.axes)} axes of Elo, {shown} of {total} prompts to read")
    if differ := apart(joined.axes):
        print(f"ratings that differ in {' and '.join(differ)} stand on axes of their own: tables/axes.csv says which")
    print(f"{len(files) - 1} figures and tables beside it; report: {files[0]}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cai report", description=__doc__)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a folder below outputs/runs or outputs/sweeps")
    parser.add_argument("--name", help="the title, and the folder below outputs/reports; else the names of the runs")
    parser.add_argument("--out", metavar="FOLDER", help="where to write, in place of outputs/reports/NAME")
    parser.add_argument("--transcripts", type=int, default=200, metavar="N", help="prompts to read at most (200)")
    parser.add_argument(
        "--characters", type=int, default=2_000_000, metavar="N", help="letters of them at most (2,000,000)"
    )
    return parser


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.=,+-]+", "_", name).strip("._") or "report"
