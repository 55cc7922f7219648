"""How far verdicts can be trusted: probes of the judge, and win rates at equal length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cai_lightning.report.markup import Html, Scale, caption, fixed, interval, percent, spanning, table
from cai_lightning.report.style import label

ONE, HALF = Scale(0, 1), 0.5
PROBES = {
    "null": "Empty words beat the reply",
    "copy": "A copy ties with the reply",
    "consistent": "The verdict turns round with the replies",
    "first": "The reply that is given first wins",
    "one_order": "Either order alone says the same",
    "again": "Asked again, the same verdict",
    "padded": "A padded copy beats the reply",
}
INJECTED = "injected_"


def probes(tables: Mapping[str, Any]) -> str:
    """What the judge said to questions whose right answer is known, a column a criterion."""
    return "".join(_probes(one) for one in tables.values())


def _probes(one: Mapping[str, Any]) -> str:
    names = list(dict.fromkeys(name for figures in one.values() for name in figures["probes"]))
    names.sort(key=lambda name: [*PROBES].index(name) if name in PROBES else len(PROBES))
    rows: list[list[str | Html]] = [
        [_name(name), _honest(one, name), *(_share(figures["probes"].get(name)) for figures in one.values())]
        for name in names
    ]
    biases = [fixed(figures["bias"], "{:+.2f}") for figures in one.values()]
    rows.append(["Worth of the first place, nats", "0", *biases])
    said = (
        "Shares of prompts in per cent, with 95 % intervals over prompt clusters; a tie is half a win. A judge fails "
        "where the interval lies outside what an honest one shows. Empty words are one sentence for all prompts."
    )
    head = ["Probe", "Honest", *(label(criterion).capitalize() for criterion in one)]
    return table(head, rows, style="measured few") + caption(said)


def _name(probe: str) -> str:
    if probe.startswith(INJECTED):
        return f"A copy that instructs the judge ({probe.removeprefix(INJECTED)}) beats the reply"
    return PROBES.get(probe, probe)


def _honest(one: Mapping[str, Any], name: str) -> str:
    bounds = next(figures["probes"][name]["honest"] for figures in one.values() if name in figures["probes"])
    if bounds is None:
        return "–"
    low, high = (f"{100 * bound:.0f}" for bound in bounds)
    return low if low == high else f"at most {high}"


def _share(figure: Mapping[str, Any] | None) -> Html:
    if figure is None:
        return Html("–")
    shown = interval(figure, percent, ONE, ticks=figure["honest"] or (), without="no interval")
    return Html(f"{shown.text}<small>fails</small>") if figure["fails"] else shown


def lengths(tables: Mapping[str, Any]) -> str:
    """Win rates against the anchor as they are and at equal length."""
    return "".join(_lengths(one) for one in tables.values())


def _lengths(one: Mapping[str, Any]) -> str:
    figures = [(player, name, found) for player, axes in one["players"].items() for name, found in axes.items()]
    scale = spanning(found["difference"] for *_, found in figures)
    rows: list[list[str | Html]] = [
        [
            f"{label(player)}, {name}",
            interval(found["raw"], percent, ONE, ticks=[HALF], without="no interval"),
            _controlled(found),
            interval(found["difference"], _points, scale, ticks=[0.0], without="no interval"),
            fixed(found["words"], "{:+.1f}"),
        ]
        for player, name, found in figures
    ]
    said = (
        f"Against {label(one['anchor'])}; a tie is half a win. At equal length: by logistic regression of the verdict "
        "on the difference in words, with 95 % intervals over prompts. Where all replies are longer, or all shorter, "
        "than the anchor's, equal length lies outside the data and the figure rests on the model."
    )
    head = ["Player", "Wins, %", "Wins at equal length, %", "Difference, points", "Words more"]
    return table(head, rows, style="measured") + caption(said)


def _controlled(found: Mapping[str, Any]) -> str | Html:
    if found["why"] is not None:
        return str(found["why"])
    shown = interval(found["controlled"], percent, ONE, ticks=[HALF], without="no interval")
    return Html(f"{shown.text}<small>beyond the data</small>") if found["beyond"] else shown


def _points(value: float | None) -> str:
    return fixed(None if value is None else 100 * value, "{:+.1f}")
