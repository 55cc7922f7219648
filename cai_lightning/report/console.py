"""The rating table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cai_lightning.report.style import ELO, METRICS, label, number, ordered


def rating_table(players: Mapping[str, Any], *, title: str) -> Table:
    """A table to print: a row a player, Elo and rates (in per cent) over their 95 % intervals.

    `players` is `summary["players"]`; metrics that no player has are left out.
    """
    known = [metric for metric in METRICS if any(player[metric]["value"] is not None for player in players.values())]
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Player", no_wrap=True)
    for metric in known:
        unit = "" if metric in ELO else ", %"
        table.add_column(METRICS[metric] + unit, justify="right", vertical="bottom")
    for name, player in ordered(players).items():
        table.add_row(escape(label(name)), *(_cell(metric, player[metric]) for metric in known))
    return table


def _cell(metric: str, figure: Mapping[str, Any]) -> str:
    value, low, high = (number(metric, figure[key]) for key in ("value", "low", "high"))
    interval = "" if figure["low"] is None and figure["high"] is None else f"\n[dim]{low} … {high}[/dim]"
    return f"[bold]{value}[/bold]{interval}"


def as_text(table: Table, *, width: int) -> str:
    """The table as plain text without colours, for logs; `width` in characters."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get()
