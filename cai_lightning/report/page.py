"""The report: one HTML page that needs nothing else, a pure function of summary, tables and transcripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from cai_lightning.report import figures
from cai_lightning.report.style import COLOURS, ELO, METRICS, label, looks, number, ordered
from cai_lightning.report.talk import conversations

CAPTIONS = {
    "frontier": "Helpfulness against harmlessness. Ellipses hold 95 % of the resamples, small dots are seeds, "
    "the dashed line joins the players that no other one dominates.",
    "elo": "Elo over RL samples under both criteria, with pointwise 95 % ribbons.",
    "rates": "What the judge found on held-out prompts, with 95 % intervals.",
    "calibration": "Feedback labels against known truth in ten bins of equal size, with 95 % Wilson bars.",
}


def render(summary: Mapping[str, Any], tables: Mapping[str, Any], transcripts: Sequence[Mapping[str, Any]]) -> str:
    """The page as HTML. Everything that a model or a config wrote is escaped.

    `summary`: summary.json. `tables`: "ratings" (one variant of `ratings()`), "calibration" (of `calibrate()`,
    or null) and "note" (one line on what these results are evidence of, or null). `transcripts`: of `choose()`.
    """
    variant = tables["ratings"]
    drawn = figures.figures(variant, tables["calibration"])
    sections = [
        _section("Players", _players(summary)),
        _section("Figures", _figures(drawn)),
        _section("Feedback and reward model", _numbers(summary)),
        _section("Frontier", _frontier(variant["frontier"])),
        _section("Multiple choice", _evals(summary["evals"])),
        _section("Who beat whom", _wins(variant["wins"])),
        _section("Transcripts", conversations(transcripts)),
        _section("Stages", _stages(summary["stages"])),
    ]
    return "".join(["<!doctype html>\n", _head(summary), _masthead(summary, tables["note"]), *sections, "</main>\n"])


def _head(summary: Mapping[str, Any]) -> str:
    light, dark = ("".join(f"--{role}:{pair[k]};" for role, pair in COLOURS.items()) for k in (0, 1))
    style = files("cai_lightning.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(str(summary['experiment']))} · Constitutional AI</title>\n<style>\n"
        f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n{style}</style></head>\n<main>\n"
    )


def _masthead(summary: Mapping[str, Any], note: str | None) -> str:
    facts = {
        "seeds": ", ".join(map(str, summary["seeds"])),
        "anchor": label(summary["anchor"]),
        "judge": summary["judge"] or "–",
        "time": _seconds(summary["seconds"]),
        "peak memory": _fixed(summary["peak_rss_mb"], "{:.0f} MB"),
    }
    items = "".join(f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>" for name, value in facts.items())
    aside = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        f'<header><p class="kicker">Constitutional AI</p><h1>{escape(str(summary["experiment"]))}</h1>{aside}'
        f'<dl class="facts">{items}</dl></header>\n'
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>\n{body}\n</section>\n" if body else ""


def _players(summary: Mapping[str, Any]) -> str:
    players = ordered(summary["players"])
    known = [m for m in METRICS if any(player[m]["value"] is not None for player in players.values())]
    if not known:
        return ""
    scales = {metric: _scale(metric, [player[metric] for player in players.values()]) for metric in known}
    head = "".join(f"<th>{METRICS[metric]}</th>" for metric in known)
    look = looks(list(players))
    rows = []
    for name, player in players.items():
        cells = "".join(
            f'<td data-label="{METRICS[metric]}">{_cell(metric, player[metric], scales[metric])}</td>'
            for metric in known
        )
        colour = f' style="--player:var(--{look[name].colour})"'
        rows.append(f'<tr{colour}><th scope="row"><i class="key"></i>{escape(label(name))}</th>{cells}</tr>')
    table = f'<table class="players"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return table + _reading(summary)


def _scale(metric: str, shown: Iterable[Mapping[str, Any]]) -> tuple[float, float]:
    """The ends of the little interval bars: 0 to 1 for rates, all players' intervals for Elo."""
    if metric not in ELO:
        return 0.0, 1.0
    values = [figure[key] for figure in shown for key in ("value", "low", "high") if figure[key] is not None]
    low, high = min(0.0, *values), max(0.0, *values)
    return low, max(high, low + 1)


def _cell(metric: str, figure: Mapping[str, Any], scale: tuple[float, float]) -> str:
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None:
        return '<span class="value">–</span>'
    start, end = scale
    left, at, right = (
        100 * (x - start) / (end - start)
        for x in (value if low is None else low, value, value if high is None else high)
    )
    known = low is not None or high is not None
    interval = f"{number(metric, low)} … {number(metric, high)}" if known else "anchor"
    bar = f'<s style="left:{left:.1f}%;width:{right - left:.1f}%"></s>' if known else ""
    return (
        f'<span class="value">{number(metric, value)}</span><span class="interval">{interval}</span>'
        f'<span class="track" title="n = {figure["n"]}">{bar}<b style="left:{at:.1f}%"></b></span>'
    )


def _reading(summary: Mapping[str, Any]) -> str:
    seeds = len(summary["seeds"])
    over = f"{seeds} seeds and the prompts" if seeds > 1 else "the prompts of one seed"
    return (
        f'<p class="caption">Elo are differences to {escape(label(summary["anchor"]))}, 400 for odds of ten to one; '
        f"rates are in per cent. Below each figure its 95 % interval over {over}.</p>"
    )


def _figures(drawn: Mapping[str, Any]) -> str:
    shown = "".join(
        f"<figure>{figures.svg(figure, name)}<figcaption>{CAPTIONS[name]}</figcaption></figure>"
        for name, figure in drawn.items()
    )
    return f'<div class="figures">{shown}</div>' if shown else ""


def _numbers(summary: Mapping[str, Any]) -> str:
    feedback, reward = summary["feedback"] or {}, summary["reward_model"] or {}
    shown = {
        "feedback accuracy": _fixed(feedback.get("accuracy"), "{:.3f}"),
        "calibration error": _fixed(feedback.get("ece"), "{:.3f}"),
        "Brier score": _fixed(feedback.get("brier"), "{:.3f}"),
        "position bias, nats": _fixed(feedback.get("position_bias"), "{:+.2f}"),
        "labels checked": _fixed(feedback.get("n"), "{:,}"),
        "reward model, harmless": _fixed(reward.get("accuracy_harmless"), "{:.3f}"),
        "reward model, helpful": _fixed(reward.get("accuracy_helpful"), "{:.3f}"),
    }
    return _tiles(shown)


def _frontier(frontier: Mapping[str, Any] | None) -> str:
    if not frontier:
        return ""
    volume = frontier["hypervolume"]
    low, high = (_fixed(volume[key], "{:,.0f}") for key in ("low", "high"))
    corner = number("helpful_elo", frontier["reference"][0])
    chances = {
        f"{label(name)} undominated": f"{100 * chance:.0f} %"
        for name, chance in ordered(frontier["non_dominated"]).items()
    }
    return _tiles({"hypervolume, Elo²": _fixed(volume["value"], "{:,.0f}")} | chances) + (
        f'<p class="caption">The hypervolume is the area that the players dominate above {corner} Elo on both axes, '
        f"95 % interval {low} … {high}. A player is undominated in the share of resamples in which no other one is "
        "at least as good on both axes and better on one.</p>"
    )


def _tiles(shown: Mapping[str, str]) -> str:
    known = {name: value for name, value in shown.items() if value != "–"}
    tiles = "".join(f"<div><dd>{escape(value)}</dd><dt>{escape(name)}</dt></div>" for name, value in known.items())
    return f'<dl class="tiles">{tiles}</dl>' if tiles else ""


def _evals(evals: Mapping[str, Any]) -> str:
    rows = [
        [name, shown["accuracy"], f"{shown['low']} … {shown['high']}", str(figure["n"])]
        for name, figure in evals.items()
        if (shown := {key: number("rate", figure[key]) for key in ("accuracy", "low", "high")})
    ]
    return _table(["Set", "Accuracy, %", "95 %", "Questions"], rows)


def _wins(wins: Mapping[str, Any]) -> str:
    parts = []
    for criterion, matrix in wins.items():
        names = [name for name in ordered(dict.fromkeys(matrix["players"])) if "@" not in name]
        place = [matrix["players"].index(name) for name in names]
        rows = [
            [label(names[k]), *("" if (s := matrix["share"][i][j]) is None else f"{100 * s:.1f}" for j in place)]
            for k, i in enumerate(place)
        ]
        table = _table([f"{criterion}, %", *map(label, names)], rows)
        parts.append(table)
    return (
        f"<details><summary>Points of the row against the column</summary>{''.join(parts)}</details>" if parts else ""
    )


def _stages(stages: Mapping[str, Any]) -> str:
    rows = [
        [slot, seed, stage["key"][:12], _fixed(stage["seconds"], "{:.1f}"), "reused" if stage["reused"] else "built"]
        for slot, seeds in stages.items()
        for seed, stage in seeds.items()
    ]
    table = _table(["Stage", "Seed", "Key", "Seconds", ""], rows)
    return f"<details><summary>{len(rows)} artifacts</summary>{table}</details>" if rows else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="plain"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _fixed(value: float | None, pattern: str) -> str:
    return "–" if value is None else pattern.format(value).replace("-", "\u2212")


def _seconds(value: float | None) -> str:
    if value is None or value < 60:
        return _fixed(value, "{:.0f} s")
    return f"{value // 60:.0f} min {value % 60:.0f} s"
