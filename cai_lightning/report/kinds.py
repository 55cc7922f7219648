"""Tables that have a part of the joined page to themselves: a kind of table joins the page by a row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from cai_lightning.report import attribution, findings
from cai_lightning.report.attribution_figures import figures
from cai_lightning.report.attribution_page import order, sections


class Kind(NamedTuple):
    """What a table's content is drawn by: all pure functions of it."""

    title: Callable[[Any], str]
    body: Callable[[Any, str], str]  # the second argument begins the ids of its figures, unlike those of any other
    draw: Callable[[Any], Mapping[str, Figure]]  # PNG files, by name
    columns: tuple[str, ...]  # of its CSV file; none, no file
    rows: Callable[[Any], list[dict[str, Any]]]


# stage that makes it -> how it is shown, in the order of the page
KINDS: Mapping[str, Kind] = {
    "findings": Kind(
        lambda one: f"Findings: {one['name']}", findings.body, findings.draw, findings.COLUMNS, findings.rows
    ),
    "attribution": Kind(
        lambda one: f"Principles of {one['constitution']}, through {one['through']}".replace("_", " "),
        lambda one, ids: "".join(sections(one, f"{ids}-", below=True)),
        lambda one: figures(order(one["principles"])),
        attribution.COLUMNS,
        attribution.rows,
    ),
}
