"""How far feedback labels can be trusted, in words: the calibration error with its interval and what chance makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cai_lightning.report.markup import fixed

FIGURES = ("accuracy", "ece", "ece_low", "ece_high", "ece_by_chance", "brier", "position_bias", "n")
SAID = (
    "A calibration error (ECE) is a sum of absolute gaps, so noise raises it: its value by chance is what labels "
    "without any error would show on average. Its 95 % interval resamples prompts and allows for that; one that begins "
    "at 0 means that chance alone may make the error."
)


def interval_words(feedback: Mapping[str, Any]) -> str:
    """The ends of the interval of the calibration error and its value by chance; empty where they are not known."""
    if feedback.get("ece_low") is None:
        return ""
    low, high, chance = (fixed(feedback[name], "{:.3f}") for name in ("ece_low", "ece_high", "ece_by_chance"))
    return f"{low} … {high}, by chance {chance}"
