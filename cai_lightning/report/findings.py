"""Findings of an ablation, `findings.json`, as a section of the page, as figures and as rows of a CSV file.

{"name", "question", "prediction", "replicates", "reseeded", "note", "metrics", "arms", "claims", "figure"}: an arm is
one measured condition with its figures, a claim is a weighted sum of arms with an interval, a direction that was
written down before the run, and a verdict. Any figure may be null or missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from cai_lightning.evaluation.claims import LEVEL
from cai_lightning.report import markup
from cai_lightning.report.figures import svg
from cai_lightning.report.markup import ENDS, Html, Scale, caption, fixed, folded, interval, slug, spanning, table
from cai_lightning.report.panels import draw, panels
from cai_lightning.report.places import metric_of, titled, value_of, with_unit
from cai_lightning.report.style import label, looks, mark

# verdict -> its mark beside the word, and the role of its colour
VERDICTS = {
    "reproduced": ("✓", "green"),
    "equivalent": ("=", "blue"),
    "contradicted": ("✗", "vermilion"),
    "inconclusive": ("?", "grey"),
}
UNITS = {"share": ("{:.1f}", 100.0, "points"), "elo": ("{:.0f}", 1.0, "Elo")}
OTHER = "{:.3g}"
TIED = "only ties"  # no comparison named a winner
COLUMNS = (
    *("findings", "part", "name", "player", "at", "metric", "unit", *ENDS, "n", "expected", "margin", "p", "p_holm"),
    *("verdict", "ingredient", *(f"control_{end}" for end in ENDS), "vanishes", "source", "weights", "words"),
)
KIND = "findings"  # what the file of such a table is called
Figures = Mapping[str, Any]
__all__ = ["COLUMNS", "KIND", "draw", "rows", "section"]


def section(findings: Figures) -> str:
    """The section of the page, with its heading. All text is escaped."""
    return markup.section(escape(f"Findings: {findings['name']}"), body(findings, f"findings {findings['name']}"))


def body(findings: Figures, ids: str) -> str:
    """Question, claims with verdicts, figures, arms with intervals; `ids` begins the ids of the figures."""
    about = f'<p class="question">{escape(str(findings.get("question") or ""))}</p>'
    if findings.get("prediction"):
        about += caption(f"Prediction: {findings['prediction']}")
    if findings.get("note"):
        about += f'<p class="note">{escape(str(findings["note"]))}</p>'
    drawn = "".join(
        f"<figure>{svg(figure, slug(f'{ids} {metric}'))}"
        f"<figcaption>{escape(_figure_words(findings, metric))}</figcaption></figure>"
        for metric, figure in panels(findings).items()
    )
    figures = f'<div class="figures">{drawn}</div>' if drawn else ""
    shown = about + _claims(findings) + figures + folded("All arms", _arms(findings))
    return f'<div class="findings">{shown}</div>'


def _figure_words(findings: Figures, metric: str) -> str:
    better = {"less": ", less is better", "more": ", more is better"}.get(
        str(metric_of(findings, metric)["better"]), ""
    )
    return f"{metric_of(findings, metric)['label']}{better}, with pointwise 95 % intervals."


def _show(findings: Figures, metric: str, value: float | None, *, signed: bool) -> str:
    """A value of a metric for readers; shares are per cent, differences have their sign."""
    pattern, times, _ = UNITS.get(str(metric_of(findings, metric)["unit"]).lower(), (OTHER, 1.0, ""))
    return fixed(None if value is None else times * value, pattern.replace(":", ":+") if signed else pattern)


def unit_of(findings: Figures, metric: str) -> str:
    """What differences of a metric are counted in."""
    unit = str(metric_of(findings, metric)["unit"])
    return UNITS[unit.lower()][2] if unit.lower() in UNITS else unit


def shower(findings: Figures, metric: str, *, signed: bool) -> Callable[[float | None], str]:
    """How values of a metric are written."""
    return lambda value: _show(findings, metric, value, signed=signed)


def expected_words(findings: Figures, claim: Figures) -> str:
    """The direction that was written down before the run, with the margin within which two figures are equal."""
    metric, margin, expected = claim["metric"], claim.get("margin"), claim.get("expected") or "–"
    unit = "%" if metric_of(findings, metric)["unit"] == "share" else unit_of(findings, metric)
    than = "" if claim.get("than") is None else f" than {_show(findings, metric, claim['than'], signed=False)} {unit}"
    room = f"within {_show(findings, metric, margin, signed=False)} {unit_of(findings, metric)}" if margin else ""
    if expected != "equal" and room:
        room = f"(equal {room.rstrip()})"
    return f"{expected}{than} {room}".replace("  ", " ").strip()


def measured_words(findings: Figures, claim: Figures) -> str:
    """What a claim's difference is one of, and what it is counted in and from."""
    words = with_unit(str(metric_of(findings, claim["metric"])["label"]), unit_of(findings, claim["metric"]))
    than = claim.get("than")
    return words if than is None else f"{words} from {_show(findings, claim['metric'], than, signed=False)}"


def _claims(findings: Figures) -> str:
    claims = findings.get("claims") or []
    scales: dict[str, Scale] = {}
    for name in {str(claim["metric"]) for claim in claims}:
        same = [_whole(claim) for claim in claims if claim["metric"] == name]
        controls = [_whole(claim["control"]) for claim in claims if claim["metric"] == name and claim.get("control")]
        scales[name] = spanning([*same, *controls])
    controlled = any(claim.get("control") or claim.get("ingredient") for claim in claims)
    rows = [
        [
            Html(escape(str(claim["says"])) + small(claim.get("source"))),
            Html(verdict(claim.get("verdict")) + verdict_words(claim)),
            Html(
                f'<span class="metric">{escape(measured_words(findings, claim))}</span>'
                + _measured(findings, claim, claim, scales[claim["metric"]], colour_of(claim.get("verdict")))
            ),
            Html(f"{escape(expected_words(findings, claim))}<small>{escape(contrast(claim))}</small>"),
            Html(
                p_words(claim.get("p_holm")) + small("" if claim.get("p") is None else f"{p_words(claim['p'])} alone")
            ),
            *([_control(findings, claim, scales[claim["metric"]])] if controlled else []),
        ]
        for claim in claims
    ]
    head = ["Claim", "Verdict", "Measured", "Expected", "p, Holm", *(["Without its ingredient"] if controlled else [])]
    return table(head, rows, style="measured claims") + (caption(_reading(findings)) if rows else "")


def verdict(word: str | None) -> str:
    """A verdict with its mark, as HTML."""
    sign, colour = VERDICTS.get(str(word), ("–", "grey"))
    shown = escape(str(word or "not decided"))
    return f'<span class="verdict" style="--player:var(--{colour})"><i aria-hidden="true">{sign}</i> {shown}</span>'


def verdict_words(claim: Figures) -> str:
    """What there is to say of a verdict beside its word, as HTML; nothing where that is all."""
    words, word = str(claim.get("words") or ""), claim.get("verdict")
    said = words if words != word else ""
    if word == "inconclusive" and claim.get("p") is not None and claim["p"] <= LEVEL < (claim.get("p_holm") or 0):
        turned = claim.get("expected") == ("less" if float(claim["value"]) > 0 else "more")
        alone = "contradicted" if turned else "shown"
        said = f"{said}; " * bool(said) + f"{alone} alone, but not among all claims"
    return small(said)


def small(words: Any) -> str:
    """A line of small print as HTML; nothing without words."""
    return f"<small>{escape(str(words))}</small>" if words else ""


def colour_of(word: str | None) -> str:
    """The role of a verdict's colour."""
    return VERDICTS.get(str(word), ("", "grey"))[1]


def _whole(figure: Figures) -> dict[str, Any]:
    return {key: figure.get(key) for key in (*ENDS, "n")}


def _measured(findings: Figures, claim: Figures, figure: Figures, scale: Scale, colour: str) -> str:
    margin = claim.get("margin") or None
    ticks = [0.0, margin, -margin if margin else None]
    show = shower(findings, claim["metric"], signed=True)
    return interval(_whole(figure), show, scale, ticks=ticks, without="no interval", colour=colour).text


def contrast(claim: Figures) -> str:
    """The weighted sum of arms that a claim is about, such as "sl_cai@4 − sl_cai@0"."""
    terms: list[str] = []
    for arm, weight in (claim.get("weights") or {}).items():
        size = "" if abs(weight) == 1 else f"{abs(weight):.3g} × "
        sign = "\u2212 " if weight < 0 else "+ " if terms else ""
        terms.append(f"{sign}{size}{label(arm)}")
    return " ".join(terms)


def p_words(value: float | None) -> str:
    """A p-value for readers."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def effect(claim: Figures) -> str:
    """What became of the effect where the ingredient was taken out."""
    vanishes = claim.get("vanishes")
    return "not decided" if vanishes is None else "the effect vanishes" if vanishes else "the effect stays"


def control_words(findings: Figures, claim: Figures) -> str | None:
    """The same difference without the ingredient and its 95 % interval; None of a claim that has no control."""
    if not (control := claim.get("control")):
        return None
    show = shower(findings, claim["metric"], signed=True)
    value, low, high = (show(control.get(end)) for end in ("value", "low", "high"))
    return f"{value} ({low} … {high})"


def _control(findings: Figures, claim: Figures, scale: Scale) -> Html:
    control = claim.get("control")
    if not control:
        return Html("–" + small(claim.get("ingredient")))
    shown = _measured(findings, claim, control, scale, "grey")
    return Html(f"{shown}<small>{escape(str(claim.get('ingredient') or ''))}: {effect(claim)}</small>")


def _reading(findings: Figures) -> str:
    count = len(findings.get("replicates") or [])
    seeds = f"{count} replicates, reseeded from {findings.get('reseeded') or '?'}" if count > 1 else "one replicate"
    return (
        f"Differences with 95 % intervals; {seeds}. Marks on the bars: zero, and the margin within which two figures "
        "count as equal. Directions were written down before the run; p is that of no difference or, where equality is "
        "expected, of one beyond the margin, and is corrected by Holm over all claims. "
        "Inconclusive means that a difference was not shown, not that there is none."
    )


def _arms(findings: Figures) -> str:
    arms = findings.get("arms") or []
    names = [name for name in _all_metrics(findings) if any(value_of(arm, name) is not None for arm in arms)]
    scales = {name: spanning(_figure(arm, name) for arm in arms) for name in names}
    look = looks(list(dict.fromkeys(arm["run"] for arm in arms)))
    rows = [
        [
            Html(f"{mark(look[arm['run']])}{escape(label(arm['arm']))}"),
            *(_cell(findings, arm, name, scales[name], look[arm["run"]].colour) for name in names),
        ]
        for arm in arms
    ]
    return table(["Arm", *(titled(findings, name) for name in names)], rows, style="measured few")


def _cell(findings: Figures, arm: Figures, metric: str, scale: Scale, colour: str) -> Html:
    """A figure of an arm; one that only ties made says so."""
    show = shower(findings, metric, signed=False)
    shown = interval(_figure(arm, metric), show, scale, ticks=(), without="no interval", colour=colour)
    tied = ((arm.get("figures") or {}).get(metric) or {}).get("tied")
    return Html(f'<span class="tied">{TIED}, counted as</span>{shown.text}') if tied else shown


def _figure(arm: Figures, metric: str) -> dict[str, Any]:
    return _whole((arm.get("figures") or {}).get(metric) or {})


def _all_metrics(findings: Figures) -> list[str]:
    """Metrics as they are described, then those that only arms have."""
    measured = [name for arm in findings.get("arms") or [] for name in arm.get("figures") or {}]
    return list(dict.fromkeys([*(findings.get("metrics") or {}), *measured]))


def rows(findings: Figures) -> list[dict[str, Any]]:
    """Rows of a CSV file with `COLUMNS`: a row an arm and metric, then a row a claim; values in the metric's unit."""
    empty = dict.fromkeys(COLUMNS) | {"findings": findings["name"]}
    found = []
    for arm in findings.get("arms") or []:
        for name, figure in (arm.get("figures") or {}).items():
            place = {"part": "arm", "name": arm["arm"], "player": arm["run"], "at": arm.get("at")}
            known = {"metric": name, "unit": metric_of(findings, name)["unit"], "words": None}
            if (figure or {}).get("tied"):
                known["words"] = TIED
            found.append(empty | place | known | _whole(figure or {}))
    for claim in findings.get("claims") or []:
        control = claim.get("control") or {}
        known = {key: claim.get(key) for key in COLUMNS if key in claim and key != "weights"}
        known |= {"part": "claim", "name": claim["says"], "unit": metric_of(findings, claim["metric"])["unit"]}
        known |= {f"control_{end}": control.get(end) for end in ENDS} | {"weights": contrast(claim)}
        found.append(empty | known)
    return found
