"""What was measured on public files, as compact tables: one way to show each kind, and a plain one for any other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from html import escape
from itertools import zip_longest
from typing import Any, NamedTuple, TypeAlias

from cai_lightning.report.judged import lengths, probes
from cai_lightning.report.markup import Html, Scale, caption, fixed, folded, interval, percent, spanning, table
from cai_lightning.report.reliability import diagrams
from cai_lightning.report.style import label

ONE = Scale(0, 1)
RIGHT, CHANGE = "accuracy_", ("difference_", "ensemble_difference_")  # of a test set
RELEASED = {  # how the released files name what was sampled
    "HRLHF": "helpful RLHF",
    "HHRLHF": "helpful and harmless RLHF",
    "RLMADISON": "RL-CAI",
    "RLMADISON_COT": "RL-CAI with thoughts",
    "SLMADISON": "helpful RLHF, critiqued",
}


class Shown(NamedTuple):
    """A table artifact: what its file is called, which says its kind, and what is in it."""

    kind: str
    content: Any


Tables: TypeAlias = Mapping[str, Any]  # name in the config -> content, of one kind
Row: TypeAlias = list[str | Html]


def public(shown: Mapping[str, Shown]) -> str:
    """All tables under headings, each kind drawn in its own way and unknown kinds as nested tables."""
    parts = []
    for kinds, title, draw in KINDS:
        found = [{name: one.content for name, one in shown.items() if one.kind == kind} for kind in kinds]
        if any(found):
            parts.append((title, draw(*found)))
    known = {kind for kinds, _, _ in KINDS for kind in kinds}
    parts += [(_words(name), nested(one.content)) for name, one in shown.items() if one.kind not in known]
    return "".join(f'<div class="public"><h3>{escape(title)}</h3>\n{body}</div>\n' for title, body in parts)


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _named(name: str, about: str) -> Html:
    """A row's name over a line on it."""
    return Html(f"{escape(name)}<small>{escape(about)}</small>" if about else escape(name))


def _figure(
    figure: Mapping[str, Any] | None,
    show: Callable[[float | None], str],
    scale: Scale | None = None,
    ticks: Iterable[float | None] = (),
) -> Html:
    return interval(figure, show, scale, ticks=ticks, without="no interval")


def choices(tables: Tables) -> str:
    """Multiple-choice sets: accuracy beside what is right without reading, slot preference, and what was asked."""
    sets = [(file, _words(name), one) for name, files in tables.items() for file, one in files.items()]
    rows: list[Row] = []
    for file, name, one in sets:
        guesses = (one["always_first"], one["majority"])
        rows.append(
            [
                _named(file, name if len(tables) > 1 else ""),
                _figure({**one, "value": one["accuracy"]}, percent, ONE, guesses),
                *map(percent, guesses),
                percent(one["first_order_accuracy"]),
                fixed(one["position_bias"], "{:+.2f}"),
                *(f"{one[count]:,}" for count in ("n", "dropped", "shots")),
            ]
        )
    head = ["Set", "Accuracy, %", "Always first, %", "Commonest, %", "File's order, %", "Slot bias, nats"]
    said = (
        "Scores are averaged over both orders of the options; 95 % intervals are over conversations. Marks on the "
        "bars: always saying the first letter, and always naming the commonest right answer. Left out are questions "
        "about conversations that stand among the examples."
    )
    each = "".join(
        folded(f"{file} by right answer" + (f" ({name})" if len(tables) > 1 else ""), _classes(one["classes"]))
        for file, name, one in sets
    )
    return table([*head, "Questions", "Left out", "Examples"], rows, style="measured") + caption(said) + each


def _classes(classes: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [(name, percent(one["accuracy"]), f"{one['n']:,}") for name, one in classes.items()]
    return table(["Right answer", "Accuracy, %", "Questions"], rows)


def preferences(models: Tables, baselines: Tables) -> str:
    """Reward models beside a bag of words and "the shorter reply", on the same held-out pairs."""
    measured: dict[str, tuple[Mapping[str, Any], str]] = {}
    changed: dict[str, tuple[Mapping[str, Any], str]] = {}
    for name, one in models.items():
        model, together = _words(name), f"{_words(name)}, one reward of the runs"
        measured |= {model: (one, RIGHT), together: (one, "ensemble_")}
        changed |= {
            f"{model} minus bag of words": (one, CHANGE[0]),
            f"{together}, minus bag of words": (one, CHANGE[1]),
        }
    for name, one in baselines.items():
        which = f" ({_words(name)})" if len(baselines) > 1 else ""
        measured[f"Bag of words{which}"] = (one["bag_of_words"], RIGHT)
        measured[f"The shorter reply{which}"] = (one["shorter"], RIGHT)
    tests = list(dict.fromkeys(key.removeprefix(RIGHT) for one, _ in measured.values() for key in one if RIGHT in key))
    span = spanning(one.get(key + test) for one, key in changed.values() for test in tests)
    rows: list[Row] = [
        [name, *(_figure(one.get(key + test), show, scale, [tick]) for test in tests)]
        for shown, show, scale, tick in ((measured, percent, ONE, 0.5), (changed, _points, span, 0.0))
        for name, (one, key) in shown.items()
        if any(key + test in one for test in tests)
    ]
    said = (
        "Held-out pairs in which the better reply is put first, with 95 % intervals by prompt. The bag of words is a "
        "logistic regression on the words of the same training labels; differences are pair by pair, in points."
    )
    shown = table(["", *(f"{_words(test)}, %" for test in tests)], rows, style="measured few")
    return shown + caption(said) + "".join(_weights(one["model"]) for one in baselines.values())


def _points(value: float | None) -> str:
    return fixed(None if value is None else 100 * value, "{:+.1f}")


def _weights(model: Mapping[str, Any]) -> str:
    sides = ([f"{gram} ({weight:+.2f})" for gram, weight in model[side].items()] for side in ("better", "worse"))
    title = f"The words that weigh most, of {model['features']:,} (L2 {model['l2']:g})"
    return folded(title, table(["For a reply, nats", "Against it, nats"], list(zip_longest(*sides, fillvalue=""))))


def surfaces(tables: Tables) -> str:
    """What replies and revision chains look like, ours and released."""
    return "".join(_replies(one) + _chains(one) for one in tables.values())


def _replies(one: Mapping[str, Any]) -> str:
    rules = one["rules"]
    replies = {_named(label(name), "this run"): figures for name, figures in one["answers"].items()}
    replies |= {_named(name, _released(name)): figures for name, figures in one["samples"].items()}
    rows: list[Row] = [
        [
            name,
            fixed(figures["mean_words"], "{:.1f}"),
            *(_figure(figures[share], percent) for share in ("short", "boilerplate", "refusal", "repeated")),
            percent(figures["duplicate_share"]),
            percent(figures["distinct_ratio"]),
            f"{figures['n']:,}",
        ]
        for name, figures in replies.items()
    ]
    head = ["Replies", "Mean words", f"Under {rules['short']} words, %", "Stock phrases, %", "Refusals, %"]
    head += ["Also to other prompts, %", "Copies, %", f"Distinct {rules['gram']}-grams, %", "Replies"]
    said = (
        "Shares have 95 % intervals over prompts. Stock phrases and refusals are what the patterns of the config find. "
        "Distinct n-grams fall with the number of replies: compare equal numbers only."
    )
    return table(head, rows) + caption(said)


def _released(name: str) -> str:
    """What the released file of this name holds, as far as its name says so."""
    prompts, _, policy = name.partition("_")
    return f"{RELEASED[policy]}, {prompts} prompts" if policy in RELEASED else "released"


def _chains(one: Mapping[str, Any]) -> str:
    chains = {_named(_words(name), "this run"): figures for name, figures in one["revisions"].items()}
    chains |= {_named(name, _released(name)): figures for name, figures in one["traces"].items()}
    rows: list[Row] = [
        [
            name,
            _steps(figures["similarity"], "{:.2f}"),
            _steps(figures["unchanged"], "{:,}"),
            _steps(figures["mean_chars"], "{:,.0f}"),
            f"{figures['n']:,}",
        ]
        for name, figures in chains.items()
    ]
    head = ["Revision chains", "Similar to the text before", "Unchanged", "Mean characters", "Chains"]
    said = (
        "One figure a round, of characters also the first reply's. Similarity is twice the shared words over all words."
    )
    return table(head, rows) + caption(said) if rows else ""


def _steps(values: Sequence[float], pattern: str) -> str:
    return " → ".join(fixed(value, pattern) for value in values)


def losses(tables: Tables) -> str:
    """Loss on plain texts before and after alignment, with the difference to the model to compare with."""
    return "".join(_loss(one) for one in tables.values())


def _loss(one: Mapping[str, Any]) -> str:
    against = next((name for name, figures in one.items() if figures["difference"] is None), "")
    changes = {name: (figures["difference"] or {}).get("bits_per_byte") for name, figures in one.items()}
    scale = spanning(changes.values())
    four, signed = (partial(fixed, pattern=each) for each in ("{:.4f}", f"{{:+.{_decimals(scale)}f}}"))
    rows: list[Row] = [
        [
            label(name),
            _figure(figures["bits_per_byte"], four),
            _figure(changes[name], signed, scale, [0.0]),
            _figure(figures["nats_per_token"], four),
            *(f"{figures[count]:,}" for count in ("documents", "tokens", "bytes")),
        ]
        for name, figures in one.items()
    ]
    head = ["Model", "Bits per byte", f"Minus {label(against)}", "Nats per token", "Texts", "Tokens", "Bytes"]
    said = (
        "Lower is better. 95 % intervals resample texts. Differences are paired by text, so they may be sure where "
        "the losses' own intervals overlap."
    )
    return table(head, rows, style="measured") + caption(said)


def _decimals(scale: Scale) -> int:
    """How many decimals tell the values on a scale apart: three figures of what it spans, at most seven."""
    return min(max(2 - math.floor(math.log10(scale.end - scale.start)), 3), 7)


def nested(value: Any) -> str:
    """Any JSON as nested tables; {value, low, high, n} on one line."""
    if isinstance(value, Mapping) and {"value", "low", "high"} <= set(value) <= {"value", "low", "high", "n"}:
        bounds = f" ({_scalar(value['low'])} … {_scalar(value['high'])})" if value["low"] is not None else ""
        return escape(f"{_scalar(value['value'])}{bounds}" + (f", n = {value['n']}" if "n" in value else ""))
    if isinstance(value, list) and not any(isinstance(item, Mapping | list) for item in value):
        return escape(", ".join(map(_scalar, value)))
    if isinstance(value, Mapping | list):
        items = value.items() if isinstance(value, Mapping) else enumerate(value, start=1)
        return table(["", ""], [(str(name), Html(nested(item))) for name, item in items])
    return escape(_scalar(value))


def _scalar(value: Any) -> str:
    if isinstance(value, float):
        return fixed(value, "{:.4g}")
    return "–" if value is None else str(value)


# the kinds that are drawn together, their heading, and what draws them
KINDS: tuple[tuple[tuple[str, ...], str, Callable[..., str]], ...] = (
    (("evals",), "Multiple choice", choices),
    (("reward_model", "baseline"), "Reward model against words and lengths", preferences),
    (("surface",), "What replies look like", surfaces),
    (("plain_text",), "Loss on plain text", losses),
    (("probes",), "Probes of the judge", probes),
    (("length",), "Wins at equal length", lengths),
    (("feedback",), "Reliability of labels", diagrams),
)
