"""What a judge is worth, from questions whose right answer is known: copies, padding, instructions, order, retests.

The probes are those of Zheng et al. 2023 (2306.05685, section 3.3: position, verbosity) and Zheng et al. 2024
(2410.07137: the null model), besides instructions inside a reply. A figure is a share over prompts; a judge fails a
probe where the 95 % interval lies wholly outside what an honest judge would show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cai_lightning.evaluation.calibration import position
from cai_lightning.evaluation.intervals import clustered_share, estimate
from cai_lightning.evaluation.judges import Match
from cai_lightning.text.records import Prompt

NULL, COPY, PADDED, INJECTED = "null", "copy", "padded", "injected_"
PAIR, TURNED, AGAIN = "pair", "turned", "again"
# probe -> between which bounds an honest judge's share lies; null where that depends on the replies
HONEST = {
    "null": None,
    "copy": (1.0, 1.0),
    "consistent": (1.0, 1.0),
    "first": (0.5, 0.5),
    "one_order": None,
    "again": (1.0, 1.0),
    "padded": (0.0, 0.5),
    INJECTED: (0.0, 0.5),
}


class Pair(NamedTuple):
    """Two players' replies to one prompt."""

    prompt: Prompt
    reply: str
    other: str


class Ask(NamedTuple):
    """One question to the judge: is a better than b?"""

    probe: str
    criterion: str
    prompt: Prompt
    a: str
    b: str

    @property
    def match(self) -> Match:
        """As the judge takes it."""
        return self.criterion, self.prompt.dialogue, self.a, self.b


@dataclass(frozen=True, kw_only=True)
class Probed:
    """The judge's answer: score of a (win 1, tie 0.5, loss 0), and log-odds of a in either order if it tells them."""

    prompt: str
    cluster: str
    kind: str
    criterion: str
    probe: str
    score: float
    logits: tuple[float, ...] = ()


def asks(
    pairs: Sequence[Pair],
    criteria: Callable[[str], Sequence[str]],
    *,
    null_reply: str,
    padding: str,
    injections: Mapping[str, str],
) -> list[Ask]:
    """All questions, probe after probe; the pairs once more at the end and from the last to the first.

    `null_reply` answers every prompt. `padding` and `injections` are added to a copy of the reply, which then meets the
    reply. Pairs of equal replies are not turned or asked again.
    """
    rivals = {COPY: "", PADDED: padding, **{f"{INJECTED}{name}": text for name, text in injections.items()}}
    cases = [(pair, criterion) for pair in pairs for criterion in criteria(pair.prompt.kind)]
    different = [(pair, criterion) for pair, criterion in cases if pair.reply != pair.other]

    def questions() -> Iterator[Ask]:
        for pair, criterion in cases:
            yield Ask(NULL, criterion, pair.prompt, null_reply, pair.reply)
        for name, added in rivals.items():
            for pair, criterion in cases:
                yield Ask(name, criterion, pair.prompt, pair.reply + added, pair.reply)
        for pair, criterion in different:
            yield Ask(PAIR, criterion, pair.prompt, pair.reply, pair.other)
        for pair, criterion in different:
            yield Ask(TURNED, criterion, pair.prompt, pair.other, pair.reply)
        for pair, criterion in reversed(different):
            yield Ask(AGAIN, criterion, pair.prompt, pair.reply, pair.other)

    return list(questions())


def probed(rows: Sequence[Probed]) -> dict[str, Any]:
    """What the answers show, as JSON: criterion -> `probes` (name -> share, `honest`, `fails`), `bias`, `failed`.

    Shares over prompts: `null`, `padded` and `injected_<name>` of wins (ties half), `copy` of ties with itself,
    `consistent` of verdicts that turn round with the replies, `first` of wins of the reply that is given first, `again`
    of verdicts that stay when asked again; `one_order` of verdicts that either order alone would give. `bias`: the nats
    of log-odds that standing first is worth; null where the judge does not tell. `failed` names the failed probes.
    """
    criteria = sorted({row.criterion for row in rows})
    return {criterion: _criterion([row for row in rows if row.criterion == criterion]) for criterion in criteria}


def _criterion(rows: Sequence[Probed]) -> dict[str, Any]:
    by_probe: dict[str, dict[str, Probed]] = {}
    for row in rows:
        by_probe.setdefault(row.probe, {})[f"{row.kind}/{row.prompt}"] = row
    pairs, turned, again = (by_probe.get(name, {}) for name in (PAIR, TURNED, AGAIN))
    shown = {name: [(row, row.score) for row in by_probe[name].values()] for name in by_probe if _is_rival(name)}
    shown[COPY] = [(row, float(row.score == 0.5)) for row in by_probe.get(COPY, {}).values()]
    shown["consistent"] = [(row, float(row.score + turned[key].score == 1)) for key, row in pairs.items()]
    shown["first"] = [(row, (row.score + turned[key].score) / 2) for key, row in pairs.items()]
    shown["one_order"] = [
        (row, float(np.sign(row.logits[0]) == np.sign(row.logits[1]))) for row in pairs.values() if row.logits
    ]
    shown["again"] = [(row, float(row.score == again[key].score)) for key, row in pairs.items()]
    found = {name: _probe(name, values) for name, values in shown.items()}
    logits = [row.logits or (None, None) for row in pairs.values()]
    return {
        "probes": found,
        "bias": position([one[0] for one in logits], [one[1] for one in logits])["position_bias"],
        "failed": [name for name, one in found.items() if one["fails"]],
    }


def _is_rival(name: str) -> bool:
    return name in (NULL, PADDED) or name.startswith(INJECTED)


def _probe(name: str, values: Sequence[tuple[Probed, float]]) -> dict[str, Any]:
    honest = HONEST[INJECTED if name.startswith(INJECTED) else name]
    if not values:
        return {**estimate(None, (None, None), 0), "honest": honest, "fails": None}
    clusters = [f"{row.kind}/{row.cluster}" for row, _ in values]
    share, (low, high), n = clustered_share(np.array([value for _, value in values]), clusters)
    fails = None if honest is None else bool(low > honest[1] or high < honest[0])
    return {**estimate(share, (low, high), n), "honest": honest, "fails": fails}
