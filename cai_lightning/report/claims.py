"""All claims of a page in one table, before anything else: each with its verdict, its figure, and what was expected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from cai_lightning.report.findings import (
    VERDICTS,
    expected_words,
    measured_words,
    shower,
    small,
    verdict,
    verdict_words,
)
from cai_lightning.report.markup import Html, caption, interval, table

READING = (
    "Differences with 95 % intervals. Reproduced: the difference has the direction that was expected, with p at most "
    ".05 after Holm's correction over the claims of its table. Equivalent: it lies within a margin that was set "
    "beforehand. Contradicted: it has the other direction by the same test, or all of its interval lies beyond the "
    "margin of what was to be equal. Inconclusive: not shown, which is not the same as none. Directions and margins "
    "were written down before the run; a margin of a direction says what counts as equal, not how large it must be."
)


class Stated(NamedTuple):
    """Findings, and where on the page they stand."""

    findings: Mapping[str, Any]
    place: str


def claims(stated: Sequence[Stated]) -> str:
    """How many claims came out how, then a table of them for each of the findings; nothing without claims."""
    known = [one for one in stated if one.findings.get("claims")]
    counted = Counter(claim.get("verdict") for one in known for claim in one.findings["claims"])
    order = [word for word in (*VERDICTS, None) if counted[word]]
    counts = "".join(f"<div><dd>{counted[word]}</dd><dt>{verdict(word)}</dt></div>" for word in order)
    parts = "".join(map(_of, known))
    return f'<dl class="tiles counts">{counts}</dl>{parts}{caption(READING)}' if known else ""


def _of(one: Stated) -> str:
    """What was asked and predicted, and a row a claim."""
    name, question = (escape(str(one.findings.get(key) or "")) for key in ("name", "question"))
    head = f'<h3><a href="#{escape(one.place)}">{name}</a>: {question}</h3>'
    predicted = one.findings.get("prediction")
    rows = [_row(one.findings, claim) for claim in one.findings["claims"]]
    shown = table(["Claim", "Verdict", "Measured"], rows, style="measured every")
    return head + (caption(f"Prediction: {predicted}") if predicted else "") + shown


def _row(findings: Mapping[str, Any], claim: Mapping[str, Any]) -> list[str | Html]:
    show = shower(findings, claim["metric"], signed=True)
    figure = {key: claim.get(key) for key in ("value", "low", "high", "n")}
    shown = interval(figure, show, None, ticks=(), without="no interval").text
    return [
        Html(escape(str(claim["says"])) + small(f"expected: {expected_words(findings, claim)}")),
        Html(verdict(claim.get("verdict")) + verdict_words(claim)),
        Html(f'{shown}<span class="metric">{escape(measured_words(findings, claim))}</span>'),
    ]
