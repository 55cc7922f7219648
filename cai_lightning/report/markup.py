"""Pieces of the page: sections, tables, tiles, figures with their intervals. All text that comes in is escaped here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

ENDS = ("value", "low", "high")


class Html(NamedTuple):
    """Markup that is escaped already."""

    text: str


class Scale(NamedTuple):
    """What a little interval bar spans, from its left to its right end."""

    start: float
    end: float

    def at(self, value: float) -> float:
        """The place of a value, in per cent of the bar; what lies outside stands at its end."""
        return min(max(100 * (value - self.start) / (self.end - self.start), 0.0), 100.0)


def slug(text: str) -> str:
    """The text as an id: letters and digits, what is between them as one hyphen."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text)


def section(title: str, body: str, *, below: bool = False) -> str:
    """A titled section, maybe below the heading of another; nothing without a body."""
    tag = "h3" if below else "h2"
    return f"<section><{tag}>{title}</{tag}>\n{body}\n</section>\n" if body else ""


def caption(text: str) -> str:
    """A line below a table."""
    return f'<p class="caption">{escape(text)}</p>' if text else ""


def folded(title: str, body: str) -> str:
    """A block that opens at a click; nothing without a body."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>" if body else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str | Html]], *, style: str = "plain") -> str:
    """A table; the first cell of a row names it. Narrow screens scroll it, or stack its cells where `style` says so."""
    body = "".join(f"<tr>{_cells(head, row)}</tr>" for row in rows)
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return (
        f'<div class="wide"><table class="{style}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
        if body
        else ""
    )


def _cells(head: Sequence[str], row: Sequence[str | Html]) -> str:
    first, *rest = (cell.text if isinstance(cell, Html) else escape(cell) for cell in row)
    named = zip(head[1:], rest, strict=True)
    return f'<th scope="row">{first}</th>' + "".join(
        f'<td data-label="{escape(name)}">{text}</td>' for name, text in named
    )


def tiles(shown: Mapping[str, str]) -> str:
    """Large figures over their names; what is unavailable is left out."""
    known = {name: value for name, value in shown.items() if value != "–"}
    items = "".join(f"<div><dd>{escape(value)}</dd><dt>{escape(name)}</dt></div>" for name, value in known.items())
    return f'<dl class="tiles">{items}</dl>' if items else ""


def fixed(value: float | None, pattern: str) -> str:
    """A number in a format, with a minus sign for readers; a dash where it is null."""
    return "–" if value is None else pattern.format(value).replace("-", "\u2212")


def percent(value: float | None) -> str:
    """A share as per cent, one decimal."""
    return fixed(None if value is None else 100 * value, "{:.1f}")


def interval(
    figure: Mapping[str, Any] | None,
    show: Callable[[float | None], str],
    scale: Scale | None,
    *,
    ticks: Iterable[float | None],
    without: str,
    colour: str = "blue",
) -> Html:
    """A figure {value, low, high, n} over its interval and a bar with both; `without` stands where there is none.

    `ticks` are values for comparison, marked on the bar where they are known. Without a scale there is no bar.
    `colour` is the bar's role in style.COLOURS.
    """
    if figure is None or figure["value"] is None:
        return Html('<span class="value">–</span>')
    low, high = figure["low"], figure["high"]
    said = without if low is None and high is None else f"{show(low)} … {show(high)}"
    bar = _track(figure, scale, ticks, colour) if scale else ""
    return Html(f'<span class="value">{show(figure["value"])}</span><span class="interval">{said}</span>{bar}')


def _track(figure: Mapping[str, Any], scale: Scale, ticks: Iterable[float | None], colour: str) -> str:
    value, low, high = (figure[key] for key in ENDS)
    left, at, right = (scale.at(x) for x in (value if low is None else low, value, value if high is None else high))
    bar = "" if low is None and high is None else f'<s style="left:{left:.1f}%;width:{right - left:.1f}%"></s>'
    marks = "".join(f'<u style="left:{scale.at(tick):.1f}%"></u>' for tick in ticks if tick is not None)
    shown = f'{bar}{marks}<b style="left:{at:.1f}%"></b>'
    return f'<span class="track" style="--player:var(--{colour})" title="n = {figure["n"]}">{shown}</span>'


def spanning(figures: Iterable[Mapping[str, Any] | None]) -> Scale:
    """A scale that holds all values and intervals, and zero."""
    found = [figure[key] for figure in figures if figure for key in ENDS if figure[key] is not None]
    low, high = min([0.0, *found]), max([0.0, *found])
    room = 0.08 * (high - low) or 1.0
    return Scale(low - room, high + room)
