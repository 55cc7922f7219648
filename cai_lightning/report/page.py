"""The report: one HTML page that needs nothing else, a pure function of summary, tables and transcripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from html import escape
from importlib.resources import files
from typing import Any

from cai_lightning.report import figures, findings
from cai_lightning.report.feedback import SAID, interval_words
from cai_lightning.report.markup import ENDS, Html, Scale, caption, fixed, folded, interval, section, table, tiles
from cai_lightning.report.public import public
from cai_lightning.report.ratings import peaks, ties
from cai_lightning.report.style import COLOURS, ELO, METRICS, label, looks, mark, measured, number, ordered
from cai_lightning.report.talk import conversations

CAPTIONS = {
    "frontier": "Helpfulness against harmlessness. Ellipses hold 95 % of the resamples, small dots are seeds, "
    "the dashed line joins the players that no other one dominates.",
    "elo": "Elo over RL samples under both criteria, with pointwise 95 % ribbons.",
    "evasive": "Replies to red-team prompts that evade, over RL samples, with pointwise 95 % ribbons.",
    "rates": "What the judge found on held-out prompts, with 95 % intervals.",
    "calibration": "Feedback labels against known truth in ten bins of equal size, with 95 % Wilson bars.",
}

UNRATED: Mapping[str, Any] = {"players": {}, "curve": [], "frontier": None, "wins": {}}


def render(summary: Mapping[str, Any], tables: Mapping[str, Any], transcripts: Sequence[Mapping[str, Any]]) -> str:
    """The page as HTML. Everything that a model or a config wrote is escaped.

    `summary`: summary.json. `tables`: "ratings" (one variant of `ratings()`, or null where no players were rated),
    "calibration" (of `calibrate()`, or null), "reward_model" (the artifact's, or null), "note" (one line on what these
    results are evidence of, or null) and "public" (name -> `Shown`), findings among them. `transcripts`: of `choose()`.
    """
    variant = tables["ratings"] or UNRATED
    measured = [one.content for one in tables["public"].values() if one.kind == findings.KIND]
    shown = {name: one for name, one in tables["public"].items() if one.kind != findings.KIND}
    drawn = figures.figures(variant, tables["calibration"])
    evals = {} if any(one.kind == "evals" for one in shown.values()) else summary["evals"]
    sections = [
        section("Players", players_table(summary["players"]) + _reading(summary, variant)),
        section("Figures", _figures(drawn) + peaks(variant)),
        *map(findings.section, measured),
        section("Feedback and reward model", _numbers(summary, tables["reward_model"] or {})),
        section("Frontier", _frontier(variant["frontier"])),
        section("Jobs", _jobs(summary["jobs"])),
        section("On public files", public(shown) + (_first(summary) if shown else "")),
        section("Multiple choice", _evals(evals)),
        section("Who beat whom", _wins(variant["wins"])),
        section("Transcripts", conversations(transcripts)),
        section("Stages", _stages(summary["stages"])),
    ]
    return whole(str(summary["experiment"]), _facts(summary), tables["note"], sections)


def whole(title: str, facts: Mapping[str, str], note: str | None, sections: Iterable[str]) -> str:
    """A page from its title, the facts below it, a note or none, and its sections; these alone are markup already."""
    top = head(title, ["page.css"]) + _masthead(title, facts, note)
    return "".join(["<!doctype html>\n", top, *sections, "</main>\n"])


def head(title: str, sheets: Sequence[str]) -> str:
    """The page's head up to `<main>`, with these style sheets of the package inside."""
    light, dark = ("".join(f"--{role}:{pair[k]};" for role, pair in COLOURS.items()) for k in (0, 1))
    style = "".join(files("cai_lightning.report").joinpath(name).read_text(encoding="utf-8") for name in sheets)
    return (
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · Constitutional AI</title>\n<style>\n"
        f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n{style}</style></head>\n<main>\n"
    )


def _facts(summary: Mapping[str, Any]) -> dict[str, str]:
    return {
        "seeds": ", ".join(map(str, summary["seeds"])),
        "anchor": label(summary["anchor"]) if summary["anchor"] else "–",
        "judge": str(summary["judge"] or "–"),
        "time": _seconds(summary["seconds"]),
        "peak memory": fixed(summary["peak_rss_mb"], "{:.0f} MB"),
    }


def _masthead(title: str, facts: Mapping[str, str], note: str | None) -> str:
    items = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    aside = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        f'<header><p class="kicker">Constitutional AI</p><h1>{escape(title)}</h1>{aside}'
        f'<dl class="facts">{items}</dl></header>\n'
    )


def players_table(players: Mapping[str, Any]) -> str:
    """A row a player with Elo and rates over their intervals; metrics that nobody has are left out."""
    players = ordered(players)
    known = measured(players)
    if not known:
        return ""
    scales = {metric: _scale(metric, [player[metric] for player in players.values()]) for metric in known}
    look = looks(list(players))
    rows = [
        [
            Html(f"{mark(look[name])}{escape(label(name))}"),
            *(
                interval(player[m], partial(number, m), scales[m], ticks=(), without="anchor", colour=look[name].colour)
                for m in known
            ),
        ]
        for name, player in players.items()
    ]
    return table(["", *(METRICS[metric] for metric in known)], rows, style="measured players")


def _scale(metric: str, shown: Iterable[Mapping[str, Any]]) -> Scale:
    """The ends of the little interval bars: 0 to 1 for rates, all players' intervals for Elo."""
    if metric not in ELO:
        return Scale(0, 1)
    values = [figure[key] for figure in shown for key in ENDS if figure[key] is not None]
    low, high = min(0.0, *values), max(0.0, *values)
    return Scale(low, max(high, low + 1))


def _reading(summary: Mapping[str, Any], variant: Mapping[str, Any]) -> str:
    if not summary["players"]:
        return ""
    seeds = len(summary["seeds"])
    over = f"{seeds} seeds and the prompts" if seeds > 1 else "the prompts of one seed"
    return (
        f'<p class="caption">Elo are differences to {escape(label(summary["anchor"]))}, 400 for odds of ten to one; '
        f"rates are in per cent. Below each figure its 95 % interval over {over}.</p>"
        + ties(variant)
        + "".join(f'<p class="note">{escape(words)}</p>' for words in summary["warnings"])
    )


def _figures(drawn: Mapping[str, Any]) -> str:
    shown = "".join(
        f"<figure>{figures.svg(figure, name)}<figcaption>{CAPTIONS[name]}</figcaption></figure>"
        for name, figure in drawn.items()
    )
    return f'<div class="figures">{shown}</div>' if shown else ""


def _numbers(summary: Mapping[str, Any], reward: Mapping[str, Any]) -> str:
    feedback = summary["feedback"] or {}
    words = interval_words(feedback)
    shown = {
        "feedback accuracy": fixed(feedback.get("accuracy"), "{:.3f}"),
        f"calibration error ({words})" if words else "calibration error": fixed(feedback.get("ece"), "{:.3f}"),
        "Brier score": fixed(feedback.get("brier"), "{:.3f}"),
        "position bias, nats": fixed(feedback.get("position_bias"), "{:+.2f}"),
        "labels checked": fixed(feedback.get("n"), "{:,}"),
    }
    for name in ("harmless", "helpful"):
        if figure := reward.get(f"accuracy_{name}"):
            value, low, high = (fixed(figure[key], "{:.3f}") for key in ENDS)
            shown[f"reward model, {name} ({low} … {high})"] = value
    return tiles(shown) + (caption(SAID) if words else "")


def _frontier(frontier: Mapping[str, Any] | None) -> str:
    if not frontier:
        return ""
    volume = frontier["hypervolume"]
    low, high = (fixed(volume[key], "{:,.0f}") for key in ("low", "high"))
    corner = number("helpful_elo", frontier["reference"][0])
    chances = {
        f"{label(name)} undominated": f"{100 * chance:.0f} %"
        for name, chance in ordered(frontier["non_dominated"]).items()
    }
    return tiles({"hypervolume, Elo²": fixed(volume["value"], "{:,.0f}")} | chances) + (
        f'<p class="caption">The hypervolume is the area that the players dominate above {corner} Elo on both axes, '
        f"95 % interval {low} … {high}. A player is undominated in the share of resamples in which no other one is "
        "at least as good on both axes and better on one.</p>"
    )


def _evals(evals: Mapping[str, Any]) -> str:
    rows = [
        [name, shown["accuracy"], f"{shown['low']} … {shown['high']}", str(figure["n"])]
        for name, figure in evals.items()
        if (shown := {key: number("rate", figure[key]) for key in ("accuracy", "low", "high")})
    ]
    return table(["Set", "Accuracy, %", "95 %", "Questions"], rows)


def _wins(wins: Mapping[str, Any]) -> str:
    parts = []
    for criterion, matrix in wins.items():
        names = list(ordered(dict.fromkeys(name for name in matrix["players"] if "@" not in name)))
        place = [matrix["players"].index(name) for name in names]
        rows = [
            [label(names[k]), *("" if (s := matrix["share"][i][j]) is None else f"{100 * s:.1f}" for j in place)]
            for k, i in enumerate(place)
        ]
        parts.append(table([f"{criterion}, %", *map(label, names)], rows))
    return folded("Points of the row against the column", "".join(parts))


def _jobs(jobs: Sequence[Mapping[str, Any]]) -> str:
    """What the joint figures pool, job by job: labels and reward model, under what sets the job apart."""
    common = set.intersection(*(set(job["overrides"]) for job in jobs)) if jobs else set()
    columns = {
        "Job": [job["job"] for job in jobs],
        "Settings": [", ".join(text for text in job["overrides"] if text not in common) or "–" for job in jobs],
    }
    for title, kind, name, pattern in (
        ("Feedback accuracy", "feedback", "accuracy", "{:.3f}"),
        ("ECE", "feedback", "ece", "{:.3f}"),
        ("Brier", "feedback", "brier", "{:.3f}"),
        ("Position bias, nats", "feedback", "position_bias", "{:+.2f}"),
        ("Reward model, harmless", "reward_model", "accuracy_harmless", "{:.3f}"),
        ("Reward model, helpful", "reward_model", "accuracy_helpful", "{:.3f}"),
    ):
        if any(job[kind][name] is not None for job in jobs):
            columns[title] = [fixed(job[kind][name], pattern) for job in jobs]
    said = "Values of single jobs have no interval here; the figures above pool all jobs."
    return table(list(columns), list(zip(*columns.values(), strict=True))) + caption(said) if jobs else ""


def _first(summary: Mapping[str, Any]) -> str:
    return caption("Of several jobs, tables that are not pooled are the first job's.") if summary["jobs"] else ""


def _stages(stages: Mapping[str, Any]) -> str:
    rows = [
        [slot, seed, stage["key"][:12], fixed(stage["seconds"], "{:.1f}"), "reused" if stage["reused"] else "built"]
        for slot, seeds in stages.items()
        for seed, stage in seeds.items()
    ]
    return folded(f"{len(rows)} artifacts", table(["Stage", "Seed", "Key", "Seconds", ""], rows)) if rows else ""


def _seconds(value: float | None) -> str:
    if value is None or value < 60:
        return fixed(value, "{:.0f} s")
    return f"{value // 60:.0f} min {value % 60:.0f} s"
