"""The end of a run that sets a reward model beside its baselines: one table, as JSON and on the console."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table as Lines

from cai_lightning.report.console import as_text
from cai_lightning.text.artifacts import Table

SCHEMA = 1
WIDTH = 120
TITLES = {
    "shorter": "the shorter reply",
    "bag_of_words": "bag of words",
    "reward_model": "reward model, mean over seeds",
    "ensemble": "reward model, one reward of all seeds",
    "difference": "reward model - bag of words",
    "ensemble_difference": "ensemble - bag of words",
}


def run(
    folder: Path,
    *,
    run: Mapping[str, Any],
    reward_accuracy: Table,
    baseline: Table,
    others: dict[str, Table],
    test: str,
) -> None:
    """Writes `folder/reward.json` and prints it: accuracies on the test set `test`, and paired differences.

    `others` are the accuracies of further reward models, by the name that they have in the table.
    """
    words = json.loads((baseline / "baseline.json").read_text(encoding="utf-8"))
    learned = json.loads((reward_accuracy / "reward_model.json").read_text(encoding="utf-8"))
    figures = {
        "shorter": words["shorter"][f"accuracy_{test}"],
        "bag_of_words": words["bag_of_words"][f"accuracy_{test}"],
        "reward_model": learned[f"accuracy_{test}"],
    }
    for name in ("ensemble", "difference", "ensemble_difference"):
        if f"{name}_{test}" in learned:
            figures[name] = learned[f"{name}_{test}"]
    for name, path in others.items():
        figures[f"reward model, {name}"] = json.loads((path / "reward_model.json").read_text("utf-8"))[
            f"accuracy_{test}"
        ]
    facts = {"schema": SCHEMA, "experiment": run["experiment"], "test": test, "seconds": run["seconds"]}
    text = json.dumps(facts | {"figures": figures}, indent=1) + "\n"
    (folder / "reward.json").write_text(text, encoding="utf-8")
    print(as_text(_lines(figures, title=f"{run['experiment']}: held-out pairs put in order"), width=WIDTH))
    print(f"figures: {folder / 'reward.json'}")


def _lines(figures: Mapping[str, Mapping[str, Any]], *, title: str) -> Lines:
    table = Lines(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for head in ("accuracy", "95 % interval", "clusters"):
        table.add_column(head, justify="right")
    for name, figure in figures.items():
        sign = "+" if name.endswith("difference") else ""
        value, low, high = (
            "-" if figure[key] is None else f"{figure[key]:{sign}.3f}" for key in ("value", "low", "high")
        )
        table.add_row(TITLES.get(name, name), value, f"{low} ... {high}", str(figure["n"]))
    return table
