"""Tables for the terminal: ratings, and the claims of findings."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cai_lightning.report.findings import control_words, effect, expected_words, measured_words, p_words, shower
from cai_lightning.report.style import ELO, METRICS, label, measured, number, ordered

NAME, HEAD, GAP = 18, 12, 2  # characters of a name at least, of a heading's line at most, between two columns


def rating_table(players: Mapping[str, Any], *, title: str, width: int) -> Table:
    """A table to print: a row a player, Elo and rates (in per cent) over their 95 % intervals.

    `players` is `summary["players"]`; metrics that no player has are left out. Long names wrap. Metrics for which
    `width` characters leave no room are named below the table.
    """
    players = ordered(players)
    known = measured(players)
    shown, room = [], width - NAME
    for metric in known:
        room -= _widest(metric, players) + GAP
        if room < 0:
            break
        shown.append(metric)
    left = [METRICS[metric] for metric in known if metric not in shown]
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.caption = f"no room for {', '.join(left)}: see the report" if left else None
    table.add_column("Player", overflow="fold")
    for metric in shown:
        table.add_column(_head(metric), justify="right", vertical="bottom", no_wrap=True)
    for name, player in players.items():
        cells = (_cell(metric, player[metric]) for metric in shown)
        table.add_row(escape(label(name)), *(f"[bold]{value}[/bold]\n[dim]{ends}[/dim]" for value, ends in cells))
    return table


def _head(metric: str) -> str:
    return fill(METRICS[metric] + ("" if metric in ELO else ", %"), HEAD)


def _widest(metric: str, players: Mapping[str, Any]) -> int:
    cells = (text for player in players.values() for text in _cell(metric, player[metric]))
    return max(map(len, [*_head(metric).split("\n"), *cells]))


def _cell(metric: str, figure: Mapping[str, Any]) -> tuple[str, str]:
    """The value, and its interval or nothing."""
    value, low, high = (number(metric, figure[key]) for key in ("value", "low", "high"))
    return value, "" if figure["low"] is None and figure["high"] is None else f"{low} … {high}"


def claims_table(findings: Mapping[str, Any], *, title: str) -> Table:
    """A table to print: a row a claim: its difference over the 95 % interval, what was expected, the verdict."""
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("Claim", overflow="fold", ratio=3)
    for head in ("Metric", "Difference", "Expected", "p, Holm", "Verdict"):
        right = head in ("Difference", "p, Holm")
        table.add_column(head, justify="right" if right else "left", overflow="fold")
    for claim in findings.get("claims") or []:
        show = shower(findings, claim["metric"], signed=True)
        value, low, high = (show(claim.get(end)) for end in ("value", "low", "high"))
        metric = measured_words(findings, claim)
        said = escape(str(claim.get("verdict") or "–"))
        table.add_row(
            escape(str(claim["says"])),
            escape(metric),
            f"[bold]{value}[/bold]\n[dim]{low} … {high}[/dim]",
            escape(expected_words(findings, claim)),
            p_words(claim.get("p_holm")),
            f"[bold]{said}[/bold]" + (f"\n[dim]{_without(findings, claim)}[/dim]" if claim.get("control") else ""),
        )
    if not findings.get("claims"):
        table.caption = "no claims: see the report"
    return table


def _without(findings: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    figure = control_words(findings, claim)
    return escape(f"without {claim.get('ingredient') or 'its ingredient'}: {effect(claim)}, {figure}")


def as_text(table: Table, *, width: int) -> str:
    """The table as plain text without colours, for logs; `width` in characters."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get()
