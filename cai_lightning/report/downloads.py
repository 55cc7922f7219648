"""The tables of a page to take along: CSV files that lie in their links, so that the page stays one file."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape

from cai_lightning.report.markup import Html, caption, table
from cai_lightning.report.sheets import Sheet, csv_text


def downloads(sheets: Mapping[str, Sheet]) -> str:
    """A row a table with its link, its rows and its columns; the files are those in `tables/` beside the page."""
    rows: list[list[str | Html]] = [
        [_link(name, sheet), f"{len(sheet.rows):,}", ", ".join(sheet.columns)] for name, sheet in sheets.items()
    ]
    said = "Figures are unrounded, and empty where unavailable. The same files lie in tables/ beside this page."
    return table(["File", "Rows", "Columns"], rows) + caption(said) if rows else ""


def _link(name: str, sheet: Sheet) -> Html:
    data = base64.b64encode(csv_text(*sheet).encode()).decode()
    file = escape(f"{name}.csv")
    return Html(f'<a download="{file}" href="data:text/csv;charset=utf-8;base64,{data}">{file}</a>')
