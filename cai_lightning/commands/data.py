"""`cai data inspect|export|check SOURCE`: look into rows, write them in other formats, find leakage between sets."""

from __future__ import annotations

import argparse
from pathlib import Path

from cai_lightning.commands.workspace import Workspace

FORMATS = ("trl", "hf_cai", "sharegpt")


def main(arguments: list[str], workspace: Workspace) -> int:
    """Exit code 0; of `check`, 1 where something leaks."""
    given = _parser().parse_args(arguments)
    code: int = given.run(given, workspace)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cai data", description="SOURCE is a store key, a slot of the latest run, or a file of any known format."
    )
    parts = parser.add_subparsers(dest="what", required=True, metavar="inspect|export|check")
    inspect = parts.add_parser("inspect", help="counts, lengths, a few rows; with a model what it would learn of them")
    inspect.set_defaults(run=_inspect)
    inspect.add_argument("source", metavar="SOURCE")
    inspect.add_argument("--model", metavar="FOLDER|KEY", help="whose tokens and format are shown")
    inspect.add_argument("--max-tokens", type=int, help="as in the stages; without it that of stages.sft")
    inspect.add_argument("--rows", type=int, default=5, help="how many rows are shown")
    inspect.add_argument("--seed", type=int, default=0, help="which ones")
    export = parts.add_parser("export", help="rows for other libraries, with a data card")
    export.set_defaults(run=_export)
    export.add_argument("source", metavar="SOURCE")
    export.add_argument("folder", metavar="DIR", type=Path, help="a new or empty folder")
    export.add_argument("--format", choices=FORMATS, required=True)
    export.add_argument("--parquet", action="store_true", help="parquet in place of JSON Lines")
    check = parts.add_parser("check", help="what of an evaluation set stands in training data")
    check.set_defaults(run=_check)
    check.add_argument("train", metavar="TRAIN", nargs="+")
    check.add_argument("--against", metavar="EVAL", nargs="+", required=True)
    check.add_argument("--words", type=int, default=8, help="length of the word n-grams that are compared")
    check.add_argument("--containment", type=float, default=0.5, help="share of them that counts as nearly the same")
    check.add_argument("--rows", type=int, default=5, help="how many leaks are shown")
    return parser


def _inspect(given: argparse.Namespace, workspace: Workspace) -> int:
    from rich.console import Console

    from cai_lightning.commands.data_inspect import Reader, show
    from cai_lightning.commands.players import player
    from cai_lightning.commands.source_rows import source_rows

    show(
        source_rows(workspace, given.source),
        Console(highlight=False),
        reader=Reader(player(workspace, given.model)) if given.model else None,
        max_tokens=given.max_tokens or workspace.value("stages.sft.max_tokens"),
        count=given.rows,
        seed=given.seed,
    )
    return 0


def _export(given: argparse.Namespace, workspace: Workspace) -> int:
    from cai_lightning.commands.data_export import export

    written = export(given.source, given.folder, workspace, format=given.format, parquet=given.parquet)
    print(f"{given.source} -> {given.folder}: {written}")
    return 0


def _check(given: argparse.Namespace, workspace: Workspace) -> int:
    from cai_lightning.commands.data_check import check

    return check(
        given.train, given.against, workspace, words=given.words, containment=given.containment, rows=given.rows
    )
