"""The axes of a search, in Hydra's own grammar: interval(a, b), range(a, b, step), a,b,c, and tag(log, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from cai_lightning.experiment.compose import parse
from cai_lightning.experiment.errors import UserError

DIGITS = 4  # of a number that is not whole, so that names of jobs stay short


@dataclass(frozen=True)
class Axis:
    """A key and what it may be: numbers from `low` to `high`, whole ones by `step`, or one of `choices`."""

    key: str
    low: float
    high: float
    step: int | None
    log: bool
    choices: tuple[str, ...]

    def override(self, value: float | str) -> str:
        """`key=value`; a number that is not whole is rounded to four digits, and stays within its bounds."""
        if self.choices or self.step:
            return f"{self.key}={value}"
        return f"{self.key}={min(max(float(f'{float(value):.{DIGITS}g}'), self.low), self.high)}"


def axes_of(overrides: Sequence[str]) -> tuple[list[str], list[Axis]]:
    """The overrides that are the same at every point, and the axes; a later override of a key replaces an earlier one.

    Raises UserError where an axis cannot be searched.
    """
    chosen: dict[str, str | Axis] = {}
    for text, override in zip(overrides, parse(list(overrides)), strict=True):
        chosen[override.get_key_element()] = _axis(text, override) if override.is_sweep_override() else text
    fixed = [item for item in chosen.values() if isinstance(item, str)]
    return fixed, [item for item in chosen.values() if isinstance(item, Axis)]


def corners(axes: Sequence[Axis]) -> list[list[str]]:
    """The overrides of two points that differ on every axis: all lowest, all highest."""
    return [
        [axis.override(axis.choices[end] if axis.choices else (axis.low, axis.high)[end]) for axis in axes]
        for end in (0, -1)
    ]


def _axis(text: str, override: Override) -> Axis:
    key, value = override.get_key_element(), override.value()
    log = "log" in getattr(value, "tags", ())
    if isinstance(value, IntervalSweep):
        low, high = float(value.start or 0), float(value.end or 0)
        found = Axis(key, low, high, None, log, ())
    elif isinstance(value, RangeSweep) and all(isinstance(x, int) for x in (value.start, value.stop, value.step)):
        steps = list(override.sweep_iterator())
        low, high = (float(steps[0]), float(steps[-1])) if steps else (0.0, 0.0)  # type: ignore[arg-type]
        found = Axis(key, low, high, int(value.step), log, ())
    else:
        found = Axis(key, 0.0, 0.0, None, False, tuple(override.sweep_string_iterator()))
    if not found.choices and (not found.low < found.high or (log and found.low <= 0)):
        wanted = "a lower bound above 0 and below the upper one" if log else "a lower bound below the upper one"
        raise UserError(f"{text}: {wanted} is wanted")
    if log and (found.step or 1) != 1:
        raise UserError(f"{text}: whole numbers on a log axis go by steps of 1")
    return found
