"""Reliability diagrams of several labellers beside each other, drawn as that of a run's own labels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from html import escape
from typing import Any

from cai_lightning.report.figures import draw_calibration, single, svg
from cai_lightning.report.markup import slug


def diagrams(tables: Mapping[str, Any]) -> str:
    """A diagram a table of `calibrate()` that has bins, named below it; all text is escaped."""
    shown = "".join(
        f"<figure>{svg(single(partial(draw_calibration, calibration=one)), slug(f'reliability {name}'))}"
        f"<figcaption>{escape(name.replace('_', ' '))}</figcaption></figure>"
        for name, one in tables.items()
        if one["bins"]
    )
    return f'<div class="figures">{shown}</div>'
