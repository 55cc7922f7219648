"""What comes out: `results.json`, a Markdown table and a chart of the ratios."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rows import Result, Row
from benchmarks.runs import is_even

Found = dict[str, Any]
TICKS = (1, 2, 3, 5, 10, 20)


def summary(row: Row, repeats: Sequence[Mapping[str, Result]]) -> Found:
    """A row with the median of its figure, its least and greatest value over the repeats, and what either side did."""
    figures = [row.figure(found) for found in repeats]
    value = statistics.median(figures)
    return {
        "name": row.name,
        "title": row.title,
        "work": row.sides["ours"].split(" ", 2)[2] if row.compared and row.unit == "x" else "",
        "ours": rate(row, [found["ours"] for found in repeats]) if row.rate else None,
        "peer": rate(row, [found["peer"] for found in repeats]) if row.rate else None,
        "rate": row.rate[1] if row.rate else None,
        "ratio": round(value, 4),
        "least": round(min(figures), 4),
        "greatest": round(max(figures), 4),
        "unit": row.unit,
        "goal": row.must,
        "stretch": row.stretch,
        "at_most": row.at_most,
        "met": row.met(value, row.must),
        "repeats": len(repeats),
        "uneven": sum(not is_even(found) for found in repeats),
        "commands": dict(row.sides),
        "sides": {name: _side([found[name] for found in repeats]) for name in row.sides},
    }


def rate(row: Row, results: Sequence[Result]) -> float:
    """The median of what was done a second."""
    assert row.rate is not None
    key = row.rate[0]
    return float(round(statistics.median(result["work"][key] / result["seconds"] for result in results), 3))


def _side(results: Sequence[Result]) -> Found:
    """The median of every figure of a side, and its work."""
    numbers = {key for key, value in results[0].items() if isinstance(value, int | float)} - {"tries"}
    found: Found = {key: round(statistics.median(result[key] for result in results), 4) for key in sorted(numbers)}
    rates = [result["calibration"]["float32"] for result in results]
    return {**found, "gflops": round(statistics.median(rates), 1), "work": results[0].get("work", {})}


def write(out: Path, found: Sequence[Found], machine: Found, *, order: Sequence[str]) -> None:
    """Writes the three files, rows in this order; those that were not run now stay as an earlier run left them in
    `results.json`.
    """
    file = out / "results.json"
    out.mkdir(parents=True, exist_ok=True)
    known = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    by_name = {row["name"]: row for row in (*known, *found)}
    rows = [by_name[name] for name in order if name in by_name]
    file.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    (out / "results.md").write_text(markdown(rows, machine), encoding="utf-8")
    chart([row for row in rows if row["rate"]], out / "results.svg")


def markdown(rows: Sequence[Found], machine: Found) -> str:
    """The table; a goal that is not met is marked."""
    lines = [
        "| row | ours | peer | ratio (least - greatest) | goal / stretch | |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        sign, unit = ("<=" if row["at_most"] else ">="), "x" if row["unit"] == "x" else f" {row['unit']}"
        sides = [f"{row[side]:,.4g} {row['rate']}" if row["rate"] else "" for side in ("ours", "peer")]
        span = f"**{row['ratio']:.3g}{unit}** ({row['least']:.3g} - {row['greatest']:.3g})"
        notes = ([] if row["met"] else ["missed"]) + ([f"{row['uneven']} uneven"] if row["uneven"] else [])
        cells = [
            f"{row['title']} `{row['name']}`",
            *sides,
            span,
            f"{sign} {row['goal']:g} / {row['stretch']:g}",
            ", ".join(notes),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    about = ", ".join(f"{name} {value}" for name, value in machine.items())
    return "\n".join(lines) + f"\n\n{about}\n"


def chart(rows: Sequence[Found], path: Path) -> None:
    """Bars of the ratios against peers, with whiskers from the least to the greatest and a mark at the goal."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    from cai_lightning.report.figures import INK, MUTED, STYLE
    from cai_lightning.report.marks import LIGHT

    with rc_context(STYLE | {"svg.hashsalt": "cai"}):
        figure = Figure(figsize=(8, 1 + 0.28 * len(rows)), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            axes.barh(place, row["ratio"], color=LIGHT["blue" if row["met"] else "vermilion"], height=0.65)
            axes.plot([row["least"], row["greatest"]], [place, place], color=INK, linewidth=1.2)
            axes.plot([row["goal"]] * 2, [place - 0.42, place + 0.42], color=INK, linewidth=2)
            axes.annotate(
                f"{row['ratio']:.2g}x",
                (max(row["greatest"], row["goal"]), place),
                (4, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xscale("log")
        axes.set_xticks(TICKS, [f"{tick:g}x" for tick in TICKS])
        axes.set_xticks([], minor=True)
        axes.set_xlim(0.8, 1.25 * max([*TICKS[:4], *(row["greatest"] for row in rows)]))
        axes.axvline(1, color=MUTED, linewidth=0.8)
        axes.set_xlabel("how many times as quick (black marks: goals)")
        FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})


def _label(row: Found) -> str:
    """The row's title, the model and the number format."""
    given = dict(setting.split("=", 1) for setting in row["commands"]["ours"].split()[2:])
    return f"{row['title']}, {given['size']} {given['precision']}"
