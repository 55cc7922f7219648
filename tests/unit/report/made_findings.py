"""Findings as the stage writes them, made up by hand: a run over rounds, one without, and four claims."""

from __future__ import annotations

from typing import Any

ATTACK = "<script>alert('x')</script>"


def figure(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 40}


def arm(run: str, at: int | None, harmful: float | None, kl: float) -> dict[str, Any]:
    name = run if at is None else f"{run}@{at}"
    around = (None, None) if harmful is None else (harmful - 0.05, harmful + 0.05)
    figures = {"harmful_rate": figure(harmful, *around), "kl": figure(kl, kl - 0.5, kl + 0.5)}
    return {"arm": name, "run": run, "at": at, "figures": figures}


def claim(says: str, verdict: str | None, value: float | None, **more: Any) -> dict[str, Any]:
    low, high = (None, None) if value is None else (value - 0.05, value + 0.05)
    one = {"says": says, "source": "section 3.4", "metric": "harmful_rate", "expected": "less", "margin": 0.0, "n": 40}
    one |= {"value": value, "low": low, "high": high, "p": 0.0004, "p_holm": 0.0125, "verdict": verdict}
    one |= {"weights": {"revisions@1": 1, "revisions@0": -1}, "ingredient": None, "control": None, "vanishes": None}
    return one | {"words": f"in short, {verdict}"} | more


def made(x: str = "at", **changes: Any) -> dict[str, Any]:
    control = {"weights": {"blind@1": 1, "blind@0": -1}, **figure(0.01, -0.02, 0.04)}
    return {
        "name": "rounds of revision",
        "question": f"Do more rounds help? {ATTACK}",
        "prediction": f"yes {ATTACK}",
        "replicates": ["0", "1"],
        "reseeded": "respond",
        "note": ATTACK,
        "metrics": {
            "harmful_rate": {"label": "Harmful", "unit": "share", "better": "less"},
            "kl": {"label": "KL", "unit": "nats", "better": "less"},
        },
        "arms": [
            arm("revisions", 0, 0.8, 0.0),
            arm("revisions", 4, 0.2, 9.0),
            arm("revisions", 1, 0.5, 4.0),
            arm("blind", 0, 0.8, 0.0),
            arm("blind", 1, None, 1.0),
            arm("direct", None, 0.3, 2.25),
        ],
        "claims": [
            claim("the first round helps", "reproduced", -0.3, ingredient="critique", control=control, vanishes=True),
            claim("later ones do not", "equivalent", 0.004, expected="equal", margin=0.02),
            claim(f"it costs nothing {ATTACK}", "contradicted", 0.25, source=ATTACK, words=ATTACK),
            claim("words help", "inconclusive", None, p=None, p_holm=None),
            claim("undecided", None, None),
        ],
        "figure": {"x": x, "x_label": "rounds" if x == "at" else None, "metrics": ["harmful_rate", "kl"], "runs": None},
    } | changes
