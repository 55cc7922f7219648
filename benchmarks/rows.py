"""What a line of the table is: sides that are run, a figure that is made of their results, and a goal."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

Result = Mapping[str, Any]
Figure = Callable[[Mapping[str, Result]], float]
"""The results of the sides, by name -> the figure of a row."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table.

    A side is a module of this folder, a task and settings, as they stand behind `python -m benchmarks.`; the module
    `peers` runs in an environment of its own. `unit` is that of the figure: "x" is how many times as quick as the peer
    ours is. `rate` says what of the work is counted a second, and that unit. The figure must reach `must`; `at_most`
    turns both goals round. With `of` the row reads the runs of the row of that name. The sides of a row that is not
    `compared` need not do the same work.
    """

    name: str
    title: str
    sides: Mapping[str, str]
    figure: Figure
    must: float
    stretch: float
    unit: str = "x"
    at_most: bool = False
    rate: tuple[str, str] | None = None
    of: str | None = None
    compared: bool = True

    @property
    def measured(self) -> str:
        """The row that the runs belong to."""
        return self.of or self.name

    def met(self, value: float, goal: float) -> bool:
        """Whether a figure reaches a goal."""
        return value <= goal if self.at_most else value >= goal

    def quick(self) -> Row:
        """The row with about a quarter of its work, for trying."""
        return replace(self, sides={name: re.sub(r"\brows=(\d+)", _quarter, side) for name, side in self.sides.items()})


def _quarter(rows: re.Match[str]) -> str:
    return f"rows={max(8, int(rows[1]) // 32 * 8)}"


def compared(
    name: str,
    title: str,
    must: float,
    stretch: float,
    rate: tuple[str, str],
    works: Mapping[str, str],
    ours: str,
    peer: str,
) -> list[Row]:
    """Rows of ours against a peer, one for each of the works; its settings stand behind those of both sides."""
    return [
        Row(
            name=f"{name}_{suffix}",
            title=title,
            sides={"ours": f"{ours} {work}", "peer": f"{peer} {work}"},
            figure=speed,
            must=must,
            stretch=stretch,
            rate=rate,
        )
        for suffix, work in works.items()
    ]


def speed(results: Mapping[str, Result]) -> float:
    """How many times as quick ours is as the peer."""
    return float(results["peer"]["seconds"] / results["ours"]["seconds"])


def utilisation(dtype: str) -> Figure:
    """The rate of the model's FLOPs as a share of the rate at which this core multiplied matrices in the same run."""
    return lambda results: float(
        results["ours"]["flops"] / results["ours"]["seconds"] / 1e9 / results["ours"]["calibration"][dtype]
    )


def quotient(key: str, above: str, below: str, *, per: str | None = None) -> Figure:
    """A figure of one side over that of another; with `per` each is divided first by this count of its work."""

    def value(result: Result) -> float:
        return float(result[key] / (result["work"][per] if per else 1))

    return lambda results: value(results[above]) / value(results[below])


def only(key: str, side: str = "ours") -> Figure:
    """A figure of one side as it is."""
    return lambda results: float(results[side][key])
