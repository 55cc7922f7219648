"""Sections of the page on what each principle does: pure functions of attribution.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from cai_lightning.report.attribution_figures import LOOKS, figures
from cai_lightning.report.figures import svg
from cai_lightning.report.markup import Html, caption, fixed, folded, interval, section, spanning, table, tiles
from cai_lightning.report.talk import step

KINDS = {
    "leave_one_out": "left out, {} lost",
    "add_one": "alone, {} above 50",
    "accuracy": "left out, {} pairs wrong",
}
CAPTIONS = {
    "leave_one_out": "What the constitution's label loses without each principle, with 95 % intervals.",
    "add_one": "What each principle's own label is worth above knowing nothing, with 95 % intervals.",
}
Entry = Mapping[str, Any]


def sections(table_: Mapping[str, Any], ids: str = "", *, below: bool = False) -> list[str]:
    """The sections of the page, in their order; what is unknown has none. What models and configs wrote is escaped.

    `ids` begins the ids of the figures; headings stand `below` another one, or not.
    """
    ranked = order(table_["principles"])
    parts = {
        "The whole constitution": whole(table_),
        "What each principle does": effects(ranked, table_) + pictures(ranked, ids),
        "By category of harm": categories(table_),
        "Who says the same": redundancy(table_["redundancy"]) + swaps(table_),
        "Labels that changed sides": transcripts(ranked),
    }
    return [section(title, body, below=below) for title, body in parts.items()]


def order(principles: Sequence[Entry]) -> list[Entry]:
    """The principles by their effect on all criteria together, the most first; ties as they come.

    By what each is worth alone, where that is known: what is lost without one of many is mostly too little to rank.
    """

    def worth(one: Entry) -> float:
        known = one["effects"]
        figures = known["add_one"] if "add_one" in known else known["leave_one_out"]
        return sum(figure["value"] or 0.0 for figure in figures.values())

    return sorted(principles, key=worth, reverse=True)


def points(value: float | None) -> str:
    """A difference of probabilities in hundredths, signed."""
    return fixed(None if value is None else 100 * value, "{:+.2f}")


def whole(found: Mapping[str, Any]) -> str:
    """What the whole is worth on each criterion, and against what that is measured."""
    shown, said = {}, []
    for name, one in found["whole"].items():
        for what in ("preference", "accuracy"):
            ends = " … ".join(fixed(one[what][end], "{:.3f}") for end in ("low", "high"))
            shown[f"{name}, {what} ({ends})"] = fixed(one[what]["value"], "{:.3f}")
        said.append(f"{name}: {one['known']:,} of {one['pairs']:,} pairs, against {found['truth_is'][name]}")
    reading = "Preference is the mean probability for the better reply, accuracy the share of pairs on its side. "
    return tiles(shown) + caption(reading + "; ".join(said) + ".")


def effects(principles: Sequence[Entry], found: Mapping[str, Any]) -> str:
    """The table of principles: each kind of effect on each criterion with its interval, and labels that turn."""
    if not principles:
        return caption("One set of principles alone says nothing; the joint page of the multirun compares them.")
    known = principles[0]["effects"]
    columns = [(kind, name) for kind in KINDS if kind in known for name in known[kind]]
    scales = {
        kind: spanning(one["effects"][kind][name] for one in principles for name in known[kind]) for kind in known
    }
    rows = [
        [
            Html(f"{escape(one['id'])}<small>{escape(str(one['text'] or '').strip())}</small>"),
            *(
                interval(
                    one["effects"][kind][name],
                    points,
                    scales[kind],
                    ticks=(0.0,),
                    without="few clusters",
                    colour=LOOKS[name].colour,
                )
                for kind, name in columns
            ),
            _turned(one["turned"]),
        ]
        for one in principles
    ]
    head = ["", *(KINDS[kind].format(name) for kind, name in columns), "changes sides, %"]
    several = len(found["replicates"]) > 1
    over = "seeds and prompts" if several else "the prompts of one seed"
    by = "each is worth alone" if "add_one" in known else "is lost without each"
    said = (
        f"Hundredths of probability, above 0 where the principle helps; 95 % intervals over {over}. "
        f"In the order of what {by}, {' and '.join(known['leave_one_out'])} together."
    )
    return table(head, rows, style="measured few principles") + caption(said)


def _turned(turned: Mapping[str, Mapping[str, float]]) -> Html:
    lines = (
        f"{escape(name)} " + ", ".join(f"{100 * share:.1f} {how.replace('_', ' ')}" for how, share in shares.items())
        for name, shares in turned.items()
    )
    return Html("".join(f'<span class="metric">{line}</span>' for line in lines))


def pictures(principles: Sequence[Entry], ids: str = "") -> str:
    """The figures, drawn into the page; `ids` begins their ids."""
    shown = "".join(
        f"<figure>{svg(figure, ids + name)}<figcaption>{CAPTIONS[name]}</figcaption></figure>"
        for name, figure in figures(principles).items()
    )
    return f'<div class="figures">{shown}</div>' if shown else ""


def categories(found: Mapping[str, Any]) -> str:
    """Principles x categories, what a principle names underlined, and how far names and effects agree."""
    cells = found["categories"]
    if not cells or not cells["names"] or not found["principles"]:
        return ""
    parts = []
    for kind, title in (("add_one", "Alone"), ("leave_one_out", "Left out, lost")):
        if kind not in cells:
            continue
        largest = max((abs(x) for row in cells[kind]["value"] for x in row if x is not None), default=0.0)
        rows = [
            [
                one["id"],
                *(
                    _heat(cells[kind], (place, k), largest, points, named=name in (one["covers"] or []))
                    for k, name in enumerate(cells["names"])
                ),
            ]
            for place, one in enumerate(found["principles"])
        ]
        parts.append(f"<h3>{title}</h3>" + table(["", *cells["names"]], rows))
    said = "Hundredths of probability for the reply with less harm of a category. Underlined: the principle names it."
    return "<br>".join(parts) + caption(said) + _agreement(found["truth"])


def _agreement(truth: Mapping[str, Any] | None) -> str:
    if not truth:
        return ""
    titles = {"add_one": "alone", "leave_one_out": "left out"}
    shown = {
        f"rank correlation, {titles[kind]} ({_ends(figure)})": fixed(figure["value"], "{:.2f}")
        for kind, figure in truth["rank_correlation"].items()
    }
    shown[f"a principle followed to the letter ({_ends(truth['followed'])})"] = fixed(
        truth["followed"]["value"], "{:.2f}"
    )
    said = f"Spearman's, over {truth['cells']} cells, of the effects with whether the principle names the category."
    return tiles(shown) + caption(said)


def _ends(figure: Mapping[str, Any]) -> str:
    return f"{fixed(figure['low'], '{:.2f}')} … {fixed(figure['high'], '{:.2f}')}"


def redundancy(found: Mapping[str, Any] | None) -> str:
    """Correlations of log-odds, and what of leaving one out another makes up for."""
    if not found:
        return ""
    said = "Correlation of the log-odds of two principles over pairs; hover for the 95 % interval."
    undone = (
        "How much of the change that leaving out the row's principle makes is undone where the column has its voice: "
        "1 where both say the same, below 0 where the column is farther from the row than the others are."
    )
    same = {"value": found["matrix"], "low": found["low"], "high": found["high"]}
    return (
        _square(found["principles"], same, _three)
        + caption(said)
        + folded("What another makes up for", _square(found["principles"], found["offset"], _three) + caption(undone))
    )


def swaps(found: Mapping[str, Any]) -> str:
    """What changes where the column's principle speaks in the place of the row's."""
    names = [one["id"] for one in found["principles"]]
    parts = [
        f"<h3>{escape(name)}</h3>" + _square(names, matrix, points) for name, matrix in found["swap"].items() if matrix
    ]
    said = caption("Hundredths of probability for the better reply, above 0 where the column has the better principle.")
    return folded("One in the place of another", "".join(parts) + said) if parts else ""


def _three(value: float | None) -> str:
    return fixed(value, "{:.3f}")


def _square(names: Sequence[str], matrix: Mapping[str, Any], show: Any) -> str:
    off = [x for i, row in enumerate(matrix["value"]) for j, x in enumerate(row) if i != j and x is not None]
    largest = max(map(abs, off), default=0.0)
    rows = [
        [f"{i + 1} {name}", *("" if i == j else _heat(matrix, (i, j), largest, show) for j in range(len(names)))]
        for i, name in enumerate(names)
    ]
    return table(["", *(str(j + 1) for j in range(len(names)))], rows)


def _heat(matrix: Mapping[str, Any], at: tuple[int, int], largest: float, show: Any, *, named: bool = False) -> Html:
    """A cell whose colour is as strong as its value: blue above 0, orange below."""
    value, low, high = (matrix[end][at[0]][at[1]] for end in ("value", "low", "high"))
    part = 0.0 if value is None or not largest else min(70 * abs(value) / largest, 70)
    hue = "orange" if value is not None and value < 0 else "blue"
    style = f"--hue:var(--{hue});--part:{part:.0f}%"
    ends = f"{show(low)} … {show(high)}"
    return Html(f'<span class="heat{" named" * named}" style="{style}" title="{ends}">{show(value)}</span>')


def transcripts(principles: Sequence[Entry]) -> str:
    """For each principle the pairs whose label changes sides without it, and those on which it stands alone."""
    blocks = []
    for one in principles:
        said = [(pair, "with it", "without it", "p_with", "p_without") for pair in one["flips"]]
        said += [(pair, "alone", "the whole", "p_alone", "p_whole") for pair in one["dissents"]]
        shown = "".join(_pair(*each) for each in said)
        blocks.append(folded(f"{one['id']}: {len(one['flips'])} without it, {len(one['dissents'])} alone", shown))
    said_ = "The largest changes first; P is the probability that A is better."
    return "".join(blocks) + caption(said_) if any(blocks) else ""


def _pair(pair: Entry, first: str, second: str, one: str, other: str) -> str:
    better = f" · truly better: {pair['better'].upper()}" if pair["better"] else ""
    chances = f"P {first} {pair[one]:.3f}, {second} {pair[other]:.3f}{better} · {pair['criterion']}"
    head = f'<summary><span class="kind">{escape(pair["criterion"])}</span>{escape(pair["prompt"].strip())}</summary>'
    steps = (
        f'<p class="principle">{escape(chances)}</p>' + step("a", pair["a"], "reply") + step("b", pair["b"], "reply")
    )
    return f'<details class="talk">{head}<div class="chain">{steps}</div></details>\n'
