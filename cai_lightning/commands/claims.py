"""`cai claims [PATH...]`: what came out of every claim of finished sweeps, as one table."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cai_lightning.commands.workspace import Workspace

WIDTH = 120
HEAD = ("claim", "source", "difference", "95 % interval", "verdict", "ingredient", "without it", "command")


def main(arguments: list[str], workspace: Workspace) -> int:
    """Exit code 0, also where a claim was contradicted: that is a result."""
    given = _parser().parse_args(arguments)
    from cai_lightning.report.console import as_text, claims_table
    from cai_lightning.report.finished import read_all

    paths = [Path(path).expanduser() for path in given.paths] or newest(workspace.outputs / "sweeps", given.sweeps)
    tables = [(run.folder, table) for run in read_all(paths, workspace.outputs) for _, table in run.tables("findings")]
    if not tables:
        raise ValueError(
            f"no claims in {', '.join(map(str, paths))}: `cai run sweeps=NAME` of a sweep that states some"
        )
    for folder, table in tables:
        print(as_text(claims_table(table, title=f"{table['name']}: {table['question']}"), width=WIDTH))
        print(f"{len(table['replicates'])} seeds, from {table['reseeded']} on; {folder / 'report.html'}\n")
    if given.markdown:
        given.markdown.write_text(markdown(table for _, table in tables), encoding="utf-8")
        print(f"table: {given.markdown}")
    return 0


def newest(sweeps: Path, names: Sequence[str]) -> list[Path]:
    """The newest finished sweep of every name below the folder, or of these names, which then must be there."""
    found: dict[str, Path] = {}
    for folder in sorted(path.parent for path in sweeps.glob("*/run.json")):
        found[folder.name.split("-", 3)[-1]] = folder
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{sweeps}: no finished sweep {missing[0]!r}; `cai run sweeps={missing[0]}` makes it")
    if not found:
        raise ValueError(f"{sweeps}: no finished sweep; `cai run sweeps=NAME` makes one")
    return [found[name] for name in names or sorted(found)]


def markdown(tables: Iterable[Mapping[str, Any]]) -> str:
    """The claims as a table in Markdown, a row each, with the command that makes it."""
    rows = [row for table in tables for row in _rows(table)]
    lines = [HEAD, tuple("---" for _ in HEAD), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _rows(table: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    from cai_lightning.report.findings import control_words, shower, unit_of

    for claim in table["claims"]:
        show = shower(table, claim["metric"], signed=True)
        value, low, high = (show(claim[end]) for end in ("value", "low", "high"))
        unit = unit_of(table, claim["metric"])
        said, source = claim["words"].replace("|", "/"), claim["source"] or "ours"
        without = control_words(table, claim) or "–"
        figure = (f"{value} {unit}".strip(), f"{low} … {high}")
        yield claim["says"], source, *figure, said, claim["ingredient"] or "–", without, f"`sweeps={table['name']}`"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cai claims", description=__doc__)
    parser.add_argument("paths", metavar="PATH", nargs="*", help="runs or sweeps; else the newest sweep of each name")
    parser.add_argument("--sweeps", metavar="NAME", nargs="+", default=[], help="the newest of these names")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="writes the table here as well")
    return parser
