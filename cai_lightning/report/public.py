"""What was measured on public files, as compact tables: one way to show each kind, and a plain one for any other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from html import escape
from typing import Any, NamedTuple, TypeAlias

from cai_lightning.report.markup import Html, Scale, caption, fixed, folded, interval, percent, spanning, table
from cai_lightning.report.style import label

ONE = Scale(0, 1)
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


Tables: TypeAlias = Mapping[str, Any]


def public(shown: Mapping[str, Shown]) -> str:
    """All tables by kind, under headings; what was trained on which files, and asked how, is the config's to say."""
    known = {name: kind for kinds, _, _ in KINDS for kind in kinds for name, one in shown.items() if one.kind == kind}
    parts = []
    for kinds, title, draw in KINDS:
        found = {kind: {n: one.content for n, one in shown.items() if one.kind == kind} for kind in kinds}
        if any(found.values()):
            parts.append((title, draw(*found.values())))
    parts += [(plain(name), nested(one.content)) for name, one in shown.items() if name not in known]
    return "".join(f'<div class="public"><h3>{escape(title)}</h3>\n{body}</div>\n' for title, body in parts if body)


def plain(name: str) -> str:
    """A name of the config as words."""
    return name.replace("_", " ")


def named(name: str, about: str) -> Html:
    """A row's name over a line on it."""
    return Html(f"{escape(name)}<small>{escape(about)}</small>" if about else escape(name))


def choices(tables: Tables) -> str:
    """Multiple-choice sets: accuracy with what is right without reading, the model's slot preference, what was asked."""
    rows: list[list[str | Html]] = []
    for name, sets in tables.items():
        for file, one in sets.items():
            figure = {**one, "value": one["accuracy"]}
            guesses = (one.get("always_first"), one.get("majority"))
            rows.append(
                [
                    named(file, plain(name) if len(tables) > 1 else ""),
                    interval(figure, percent, ONE, ticks=guesses, without="no interval"),
                    *map(percent, guesses),
                    percent(one.get("first_order_accuracy")),
                    fixed(one.get("position_bias"), "{:+.2f}"),
                    f"{one['n']:,}",
                    fixed(one.get("dropped"), "{:,}"),
                    fixed(one.get("shots"), "{:,}"),
                ]
            )
    head = ["Set", "Accuracy, %", "Always first, %", "Commonest, %", "File's order, %", "Slot bias, nats"]
    each = "".join(
        folded(f"{file}, {plain(name)}: accuracy by right answer", _classes(one["classes"]))
        for name, sets in tables.items()
        for file, one in sets.items()
        if one.get("classes")
    )
    said = (
        "Scores are averaged over both orders of the options; 95 % intervals are over conversations. Marks on the bars: "
        "always saying the first letter, and always naming the commonest right answer. Left out are questions about "
        "conversations that stand among the examples."
    )
    return table([*head, "Questions", "Left out", "Examples"], rows, style="measured") + caption(said) + each


def _classes(classes: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [(name, percent(one["accuracy"]), f"{one['n']:,}") for name, one in classes.items()]
    return table(["Right answer", "Accuracy, %", "Questions"], rows)


def preferences(models: Tables, baselines: Tables) -> str:
    """Reward models beside a bag of words and "the shorter reply", on the same held-out pairs."""
    measured = [*models.values(), *(one[kind] for one in baselines.values() for kind in ("bag_of_words", "shorter"))]
    tests = list(dict.fromkeys(key.removeprefix(_RIGHT) for one in measured for key in one if key.startswith(_RIGHT)))
    rows: list[list[str | Html]] = []

    def row(name: str, one: Mapping[str, Any], key: str, show: Callable[[float | None], str], scale: Scale) -> None:
        if any(key + test in one for test in tests):
            tick = 0.0 if key in _CHANGE else 0.5
            cells = [interval(one.get(key + test), show, scale, ticks=[tick], without="no interval") for test in tests]
            rows.append([name, *cells])

    for name, one in models.items():
        row(plain(name).capitalize(), one, _RIGHT, percent, ONE)
        row(f"{plain(name).capitalize()}s, mean reward", one, "ensemble_", percent, ONE)
    for one in baselines.values():
        row("Bag of words", one["bag_of_words"], _RIGHT, percent, ONE)
        row("The shorter reply", one["shorter"], _RIGHT, percent, ONE)
    changes = spanning(one.get(key + test) for one in models.values() for key in _CHANGE for test in tests)
    for name, one in models.items():
        row(f"{plain(name).capitalize()} minus words", one, _CHANGE[0], _points, changes)
        row(f"Mean of {plain(name)}s minus words", one, _CHANGE[1], _points, changes)
    said = (
        "Held-out pairs in which the better reply is put first, with 95 % intervals by prompt. The bag of words is a "
        "logistic regression on the words of the same training labels; differences are pair by pair, in points."
    )
    shown = table(["", *(f"{plain(test).capitalize()}, %" for test in tests)], rows, style="measured few")
    return shown + caption(said) + "".join(_words(one["model"]) for one in baselines.values())


_RIGHT = "accuracy_"
_CHANGE = ("difference_", "ensemble_difference_")


def _points(value: float | None) -> str:
    return fixed(None if value is None else 100 * value, "{:+.1f}")


def _words(model: Mapping[str, Any]) -> str:
    better, worse = ([f"{gram} ({weight:+.2f})" for gram, weight in model[side].items()] for side in ("better", "worse"))
    rows = zip(better, worse, strict=True) if len(better) == len(worse) else ()
    title = f"The words that weigh most, of {model['features']:,} (L2 {model['l2']:g})"
    return folded(title, table(["For a reply, nats", "Against it, nats"], list(rows)))


def surfaces(tables: Tables) -> str:
    """Shape of replies and of revision chains, ours and released, of each table."""
    return "".join(_surface(one) for one in tables.values())


def _surface(one: Mapping[str, Any]) -> str:
    rules = one["rules"]
    replies = [(named(label(name), "this run"), figures) for name, figures in one["answers"].items()]
    replies += [(named(name, _released(name)), figures) for name, figures in one["samples"].items()]
    rows = [
        [
            name,
            fixed(figures["mean_words"], "{:.1f}"),
            *(_small(figures[share]) for share in ("short", "boilerplate", "refusal", "repeated")),
            percent(figures["duplicate_share"]),
            percent(figures["distinct_ratio"]),
            f"{figures['n']:,}",
        ]
        for name, figures in replies
    ]
    head = ["Replies", "Mean words", f"Under {rules['short']} words, %", "Stock phrases, %", "Refusals, %"]
    head += ["Answer other prompts too, %", "Copies, %", f"Distinct {rules['gram']}-grams, %", "Replies, n"]
    said = (
        "Shares have 95 % intervals over prompts. Stock phrases and refusals are what the patterns of the config find. "
        "Distinct n-grams fall with the number of replies: compare equal numbers only."
    )
    return table(head, rows) + caption(said) + _chains(one)


def _small(figure: Mapping[str, Any]) -> Html:
    return interval(figure, percent, None, ticks=(), without="no interval")


def _released(name: str) -> str:
    """What the released file of this name holds, as far as its name says so; "released" at least."""
    prompts, _, policy = name.partition("_")
    return f"{RELEASED[policy]}, {prompts} prompts" if policy in RELEASED else "released"


def _chains(one: Mapping[str, Any]) -> str:
    chains = [(named(plain(name), "this run"), figures) for name, figures in one["revisions"].items()]
    chains += [(named(name, _released(name)), figures) for name, figures in one["traces"].items()]
    rows = [
        [
            name,
            _steps(figures["similarity"], "{:.2f}"),
            _steps(figures["unchanged"], "{:,}"),
            _steps(figures["mean_chars"], "{:,.0f}"),
            f"{figures['n']:,}",
        ]
        for name, figures in chains
    ]
    head = ["Revision chains", "Similar to the text before", "Unchanged", "Mean characters", "Chains"]
    said = "Similarity is twice the shared words over all, 0 to 1; one figure a round, of characters also the first reply's."
    return table(head, rows) + caption(said) if rows else ""


def _steps(values: Sequence[float], pattern: str) -> str:
    return " → ".join(fixed(value, pattern) for value in values)


def losses(tables: Tables) -> str:
    """Loss on plain texts before and after alignment, with the difference to the model that the others are set against."""
    return "".join(_loss(one) for one in tables.values())


def _loss(one: Mapping[str, Any]) -> str:
    against = next((name for name, figures in one.items() if figures["difference"] is None), "")
    changes = {name: (figures["difference"] or {}).get("bits_per_byte") for name, figures in one.items()}
    scale = spanning(changes.values())
    signed, bits = partial(_formatted, pattern="{:+.4f}"), partial(_formatted, pattern="{:.4f}")
    nats = partial(_formatted, pattern="{:.3f}")
    ends = [figures["bits_per_byte"] for figures in one.values()]
    rows = [
        [
            label(name),
            interval(figures["bits_per_byte"], bits, spanning(ends), ticks=(), without="no interval"),
            interval(changes[name], signed, scale, ticks=[0.0], without="no interval"),
            interval(figures["nats_per_token"], nats, None, ticks=(), without="no interval"),
            f"{figures['documents']:,}",
            f"{figures['bytes']:,}",
        ]
        for name, figures in one.items()
    ]
    head = ["Model", "Bits per byte", f"Minus {label(against)}", "Nats per token", "Texts", "Bytes"]
    said = (
        "Lower is better. 95 % intervals resample texts; differences are paired by text, "
        "so they can be sure where the losses' own intervals overlap."
    )
    return table(head, rows, style="measured") + caption(said)


def _formatted(value: float | None, pattern: str) -> str:
    return fixed(value, pattern)


def nested(value: Any) -> str:
    """Any JSON as nested tables; {value, low, high, n} on one line."""
    if isinstance(value, Mapping) and {"value", "low", "high"} <= set(value) <= {"value", "low", "high", "n"}:
        bounds = f" ({_scalar(value['low'])} … {_scalar(value['high'])})" if value["low"] is not None else ""
        return escape(f"{_scalar(value['value'])}{bounds}" + (f", n = {value['n']}" if "n" in value else ""))
    if isinstance(value, list) and not any(isinstance(item, Mapping | list) for item in value):
        return escape(", ".join(map(_scalar, value)))
    if isinstance(value, Mapping | list):
        items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, Mapping) else enumerate(value, start=1)
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
)
