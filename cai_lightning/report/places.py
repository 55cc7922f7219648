"""Where the arms of findings stand in a figure: over rounds, another metric, or the numbers of a sweep's setting."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

KL = "kl"  # the metric whose square root is the axis: over-optimisation is a curve over it
SETTING = "setting"

Figures = Mapping[str, Any]
Arm = Mapping[str, Any]


def asked(findings: Figures) -> Mapping[str, Any]:
    """What the findings want as a figure."""
    return findings.get("figure") or {}


def metric_of(findings: Figures, name: str) -> dict[str, Any]:
    """Label, unit and better direction of a metric; a metric that is not described is called by its name."""
    return {"label": name, "unit": "", "better": None} | dict((findings.get("metrics") or {}).get(name) or {})


def titled(findings: Figures, name: str) -> str:
    """A metric with its unit, as an axis or a column calls it."""
    metric = metric_of(findings, name)
    return with_unit(str(metric["label"]), "%" if metric["unit"] == "share" else str(metric["unit"]))


def with_unit(words: str, unit: str) -> str:
    """The words with a unit, unless they end with it."""
    return f"{words}, {unit}" if unit and not words.endswith(unit) else words


def scale_of(findings: Figures, name: str) -> float:
    """What values of a metric are multiplied with for readers: shares are per cent."""
    return 100.0 if metric_of(findings, name)["unit"] == "share" else 1.0


def value_of(arm: Arm, metric: str) -> float | None:
    """The value of a metric of an arm, or None."""
    figure = (arm.get("figures") or {}).get(metric) or {}
    return figure.get("value")


def arms_by_run(findings: Figures) -> dict[str, list[Arm]]:
    """The arms of each line of the figure, in the order of its points.

    A line is a run; over a setting it is what remains of a run without that setting, at one point of the run.
    """
    wanted, over = asked(findings).get("runs"), asked(findings).get("x") == SETTING
    runs: dict[str, list[Arm]] = {}
    for arm in findings.get("arms") or []:
        line = _line(findings, arm) if over else arm["run"]
        if wanted is None or line in wanted:
            runs.setdefault(line, []).append(arm)
    place = axis(findings)[0] if over else _at
    return {run: sorted(arms, key=lambda arm: (place(arm) is None, place(arm) or 0)) for run, arms in runs.items()}


def axis(findings: Figures) -> tuple[Callable[[Arm], float | None], str]:
    """Where an arm stands on the x axis, and what the axis is called."""
    x, words = str(asked(findings).get("x") or "at"), asked(findings).get("x_label")
    if x == "at":
        return _at, str(words or "")
    if x == SETTING:
        return lambda arm: _set(findings, arm), str(words or asked(findings)["setting"])
    times = scale_of(findings, x)
    if x == KL:
        return lambda arm: _root(value_of(arm, x)), str(words or f"√ {titled(findings, x)}")
    return lambda arm: None if (value := value_of(arm, x)) is None else times * value, str(words or titled(findings, x))


def _at(arm: Arm) -> float | None:
    return arm.get("at")


def _root(value: float | None) -> float | None:
    """An estimated divergence may fall below zero by noise; its root is then zero."""
    return None if value is None else math.sqrt(max(value, 0.0))


def _settings(run: str) -> tuple[str, dict[str, str]]:
    """A run's name without brackets, and the settings in them; a comma inside of further brackets parts nothing."""
    name, _, inside = run.partition(" [")
    parts = re.split(r", (?![^\[]*\])", inside.removesuffix("]"))
    return name, dict(part.split("=", 1) for part in parts if "=" in part)


def _set(findings: Figures, arm: Arm) -> float | None:
    """The number that stands for the arm's setting: from the figure's `values`, or the setting itself."""
    spelt = _settings(arm["run"])[1].get(str(asked(findings)["setting"]))
    if spelt is None:
        return None
    numbers = {str(name): number for name, number in (asked(findings).get("values") or {}).items()}
    try:
        return float(numbers.get(spelt, spelt))
    except ValueError:
        return None


def _line(findings: Figures, arm: Arm) -> str:
    name, settings = _settings(arm["run"])
    rest = ", ".join(f"{key}={value}" for key, value in settings.items() if key != str(asked(findings)["setting"]))
    run = f"{name} [{rest}]" if rest else name
    return run if arm.get("at") is None else f"{run}@{arm['at']}"
