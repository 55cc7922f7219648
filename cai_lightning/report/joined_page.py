"""Several runs and sweeps as one page that needs nothing else: a pure function of what was joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import NamedTuple

from cai_lightning.report.axes import Axis
from cai_lightning.report.claims import Stated, claims
from cai_lightning.report.downloads import downloads
from cai_lightning.report.feedback import SAID, interval_words
from cai_lightning.report.figures import draw_calibration, figures, single, svg
from cai_lightning.report.finished import Finished
from cai_lightning.report.joined import PUBLIC, Held, Joined, apart, scale_words
from cai_lightning.report.joined_runs import results, runs_table
from cai_lightning.report.joined_tables import tables
from cai_lightning.report.kinds import KINDS
from cai_lightning.report.markup import Html, caption, fixed, folded, table
from cai_lightning.report.page import CAPTIONS, head, players_table
from cai_lightning.report.plots import embedded, named, names_of, plot_data, plots
from cai_lightning.report.public import Shown, public
from cai_lightning.report.ratings import peaks
from cai_lightning.report.reading_room import reading_room
from cai_lightning.report.script import script
from cai_lightning.report.style import Look, label, looks

MOVING = ("frontier", "elo", "evasive")  # figures that have a counterpart to point at
FILES = {"reward_accuracy": "reward_model", "multiple_choice": "evals"}  # stage -> its file, where the names differ


class Part(NamedTuple):
    """A part of the page: its id, its heading, and its HTML, without which it is left out."""

    place: str
    title: str
    body: str


def render(joined: Joined) -> str:
    """The page as HTML. Everything that a model or a config wrote is escaped."""
    place = {one["name"]: k for k, one in enumerate(joined.texts["makers"])}
    labels = [run.label for run in joined.runs]
    look = looks(_names(joined))
    own = [
        Part(f"{stage}-{k}", _of(one, joined, kind.title(one.content)), kind.body(one.content, f"{stage}-{k}"))
        for stage, kind in KINDS.items()
        for k, one in enumerate(joined.tables[stage])
    ]
    stated = zip(joined.tables["findings"], own, strict=False)  # the first kind, and so the first of `own`
    parts = [
        Part("claims", "Claims", claims([Stated(one.content, part.place) for one, part in stated])),
        Part("joined", "What is joined", runs_table(joined.runs) + _warning(joined.axes)),
        *(
            Part(f"axis-{k}", _title(joined.axes, k), _axis(axis, k, labels, look) + _warnings(joined.runs, axis))
            for k, axis in enumerate(joined.axes)
        ),
        Part("frontiers", "Frontiers", _volumes(joined)),
        *own,
        Part("labels", "Labels and reward models", _labels(joined)),
        Part("further", "Further tables", _public(joined)),
        Part("transcripts", "Transcripts", reading_room(joined.texts, labels, look)),
        Part("results", "Results", results(joined.runs)),
        Part("files", "Tables as files", downloads(tables(joined))),
    ]
    shown = [part for part in parts if part.body]
    sections = "".join(
        f'<section id="{part.place}"><h2>{escape(part.title)}</h2>\n{part.body}\n</section>\n' for part in shown
    )
    data = {
        "runs": labels,
        "names": named(look),
        "axes": [plot_data(axis, place) for axis in joined.axes],
        **joined.texts,
    }
    top = head(joined.name, ["page.css", "joined.css"]) + _masthead(joined, shown)
    return f"<!doctype html>\n{top}{sections}</main>\n{embedded(data, 'joined-data')}<script>\n{script()}</script>\n"


def _masthead(joined: Joined, parts: Sequence[Part]) -> str:
    notes = dict.fromkeys(str(note) for run in joined.runs if (note := (run.config.get("report") or {}).get("note")))
    facts = {
        "runs": sum(not run.is_sweep for run in joined.runs),
        "sweeps": sum(run.is_sweep for run in joined.runs),
        "players": len({name for axis in joined.axes for name in axis.variant["players"]}),
        "claims": sum(len(one.content.get("claims") or []) for one in joined.tables["findings"]),
        "prompts to read": len(joined.texts["prompts"]),
    }
    items = "".join(f"<div><dt>{name}</dt><dd>{count}</dd></div>" for name, count in facts.items() if count)
    links = "".join(f'<li><a href="#{part.place}">{escape(part.title)}</a></li>' for part in parts)
    return (
        f'<header><p class="kicker">Constitutional AI</p><h1>{escape(joined.name)}</h1>'
        + "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
        + f'<dl class="facts">{items}</dl><nav aria-label="Parts of this page"><ul>{links}</ul></nav></header>\n'
    )


def _warning(found: Sequence[Axis]) -> str:
    differ = apart(found)
    return (
        f'<p class="note apart">Elo of these {len(found)} groups are not comparable, and stand on axes of their own: '
        f"they differ in {' and '.join(differ)}.</p>"
        if differ
        else ""
    )


def _title(found: Sequence[Axis], k: int) -> str:
    return "Helpfulness and harmlessness" + (f", group {k + 1} of {len(found)}" if len(found) > 1 else "")


def _names(joined: Joined) -> list[str]:
    """All players of the page, each once."""
    rated = [name for axis in joined.axes for name in names_of(axis)]
    return list(dict.fromkeys([*rated, *(name for one in joined.texts["makers"] for name in one["players"])]))


def _axis(axis: Axis, number: int, labels: Sequence[str], look: Mapping[str, Look]) -> str:
    drawn = {name: svg(figure, f"axis{number}-{name}") for name, figure in figures(axis.variant, None).items()}
    words = scale_words(axis)
    said = (
        f"Elo are differences to {label(axis.scale.anchor)}, 400 for odds of ten to one; ellipses, ribbons and bars "
        "are 95 % intervals. "
    )
    rests = " · ".join(f"{name}: {value}" for name, value in words.items())
    still = "".join(
        f"<figure>{drawn[name]}<figcaption>{CAPTIONS[name]}</figcaption></figure>"
        for name in drawn
        if name not in MOVING
    )
    return (
        plots(axis, number, labels, look, {name: drawn[name] for name in MOVING if name in drawn})
        + caption(said + rests)
        + players_table(axis.variant["players"])
        + peaks(axis.variant)
        + (f'<div class="figures">{still}</div>' if still else "")
    )


def _warnings(runs: Sequence[Finished], axis: Axis) -> str:
    """What the summaries of the rated runs warn of."""
    return "".join(
        f'<p class="note">{escape(one.label)}: {escape(words)}</p>'
        for one in axis.rated
        for words in runs[one.place].summary.get("warnings") or []
    )


def _volumes(joined: Joined) -> str:
    rows = [
        [
            one.label,
            f"{volume['value']:,.0f}",
            f"{fixed(volume['low'], '{:,.0f}')} … {fixed(volume['high'], '{:,.0f}')}",
            fixed(frontier["reference"][0], "{:+.0f}"),
            ", ".join(f"{label(name)} {100 * share:.0f}\u00a0%" for name, share in frontier["non_dominated"].items()),
        ]
        for axis in joined.axes
        for one in axis.rated
        if (frontier := one.variant["frontier"])
        for volume in [frontier["hypervolume"]]
    ]
    said = (
        "The hypervolume is the area that a run's players dominate above the corner on both axes. A player is "
        "undominated in the share of resamples in which no other one is as good on both axes and better on one."
    )
    shown = table(["Run or sweep", "Hypervolume, Elo²", "95 %", "Corner, Elo", "Undominated"], rows)
    return shown + caption(said) if rows else ""


def _of(one: Held, joined: Joined, title: str) -> str:
    """A heading, with its run's name where several runs are joined."""
    said = title.replace("_", " ").endswith(one.run.label.replace("_", " "))
    return f"{title} ({one.run.label})" if len(joined.runs) > 1 and not said else title


def _labels(joined: Joined) -> str:
    rows: list[list[str | Html]] = []
    for run in joined.runs:
        feedback, reward = run.summary.get("feedback") or {}, run.summary.get("reward_model") or {}
        shown = [
            *(fixed(feedback.get(name), "{:.3f}") for name in ("accuracy", "ece")),
            interval_words(feedback) or "–",
            fixed(feedback.get("brier"), "{:.3f}"),
            fixed(feedback.get("position_bias"), "{:+.2f}"),
            fixed(feedback.get("n"), "{:,}"),
            *(fixed(reward.get(f"accuracy_{name}"), "{:.3f}") for name in ("harmless", "helpful")),
        ]
        if any(text != "–" for text in shown):
            rows.append([run.label, *shown])
    columns = [
        "Run or sweep",
        "Accuracy",
        "ECE",
        "95 %",
        "Brier",
        "Position bias, nats",
        "Labels",
        "Reward model, harmless",
        "Reward model, helpful",
    ]
    drawn = "".join(
        f"<figure>{svg(figure, f'calibration{k}')}"
        f"<figcaption>{escape(one.run.label)}: {CAPTIONS['calibration']}</figcaption></figure>"
        for k, one in enumerate(joined.tables["calibration"])
        if one.content["bins"]
        for figure in [single(partial(draw_calibration, calibration=one.content))]
    )
    said = caption(
        "Feedback labels against known truth, and the share of held-out pairs that a reward model orders rightly. "
        + SAID
    )
    return (table(columns, rows) + said if rows else "") + (f'<div class="figures">{drawn}</div>' if drawn else "")


def _public(joined: Joined) -> str:
    parts = []
    for run in joined.runs:
        shown = {
            one.slot: Shown(FILES.get(stage, stage), one.content)
            for stage in PUBLIC
            for one in joined.tables[stage]
            if one.run is run
        }
        if shown:
            parts.append(folded(run.label, public(shown)))
    return "".join(parts)
