"""The moving parts of the joined page: the files in `javascript/`, as one script that fetches nothing."""

from __future__ import annotations

from importlib.resources import files

# in this order, for a part may use those before it
PARTS = ("elements", "numbers", "makers", "chart", "plots", "choices", "transcripts", "start")


def script() -> str:
    """The script that reads the data beside it and sets the page in motion; its names are seen by nothing else."""
    folder = files("cai_lightning.report").joinpath("javascript")
    text = "".join(folder.joinpath(f"{part}.js").read_text(encoding="utf-8") for part in PARTS)
    return f'"use strict";\n(() => {{\n{text}}})();\n'
