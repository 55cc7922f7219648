"""What replies look like, measured without any model: length, repetition, stock phrases, refusals, what revisions keep.

Words are what white space separates. Replies come in groups, one group a prompt: evasion is driven by the prompt, so
intervals are over prompts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

import numpy as np

from cai_lightning.evaluation.intervals import clustered_share, estimate

Groups = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Rules:
    """What counts as short, stock, refusing and explaining: numbers and patterns, all of them choices.

    A reply is short below `short` words. `boilerplate`, `refusal` and `reason` are regular expressions that are
    searched in a reply as it stands. `gram` is the n of distinct n-grams, `token` the pattern of what they are made of.
    """

    short: int
    boilerplate: str
    refusal: str
    reason: str
    gram: int
    token: str


def describe(groups: Groups, rules: Rules) -> dict[str, Any]:
    """All figures of replies, one group a prompt: shares with 95 % intervals over prompts, and plain figures.

    Shares (the mean over prompts): `short`, `boilerplate`, `refusal`, `short_canned` (short, and a refusal or also the
    answer to another prompt), `repeated` (also the answer to another prompt), `explained` (of the refusing replies,
    those that give a reason; over prompts with a refusal). Figures of all replies together: `mean_words`,
    `duplicate_share`, `distinct_ratio`, `n`. Raises ValueError without replies.
    """
    texts = [text for group in groups for text in group]
    if not texts:
        raise ValueError("no replies to measure")
    names = [str(number) for number, group in enumerate(groups) for _ in group]
    short = np.array([len(text.split()) < rules.short for text in texts])
    refusal, reason, boilerplate = (
        np.array([re.search(pattern, text) is not None for text in texts])
        for pattern in (rules.refusal, rules.reason, rules.boilerplate)
    )
    repeated = np.array(repeats(texts, names))
    shares = {
        "short": short,
        "boilerplate": boilerplate,
        "refusal": refusal,
        "short_canned": short & (refusal | repeated),
        "repeated": repeated,
    }
    refusing = [name for name, refuses in zip(names, refusal, strict=True) if refuses]
    return {
        "n": len(texts),
        **{name: _share(values, names) for name, values in shares.items()},
        "explained": _share(reason[refusal], refusing),
        "mean_words": mean_words(texts),
        "duplicate_share": duplicate_share(texts),
        "distinct_ratio": distinct_ratio(texts, n=rules.gram, token=rules.token),
    }


def _share(values: np.ndarray[Any, np.dtype[np.bool_]], names: Sequence[str]) -> dict[str, Any]:
    if not len(values):
        return estimate(None, (None, None), 0)
    value, interval, n = clustered_share(values.astype(np.float64), names)
    return estimate(value, interval, n)


def share_under(texts: Sequence[str], *, words: int) -> float:
    """The share of texts of fewer than `words` words."""
    return float(np.mean([len(text.split()) < words for text in texts]))


def mean_words(texts: Sequence[str]) -> float:
    """The mean number of words of a text."""
    return float(np.mean([len(text.split()) for text in texts]))


def matching_share(texts: Sequence[str], *, pattern: str) -> float:
    """The share of texts in which a regular expression is found."""
    return float(np.mean([re.search(pattern, text) is not None for text in texts]))


def duplicate_share(texts: Sequence[str]) -> float:
    """The share of texts that are exact copies of an earlier one, whichever prompts they answer: 1 - distinct / all."""
    return 1 - len(set(texts)) / len(texts)


def distinct_ratio(texts: Iterable[str], *, n: int, token: str) -> float | None:
    """Distinct n-grams over all n-grams of the texts together, in lower case, none across two texts; null without any.

    Falls with the number of texts: compare equal numbers only.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        tokens = re.findall(token, text.lower())
        counts.update(zip(*(tokens[start:] for start in range(n)), strict=False))
    return len(counts) / counts.total() if counts else None


def repeats(texts: Sequence[str], prompts: Sequence[str]) -> list[bool]:
    """Of every reply to its prompt: whether the same words, case and white space apart, also answer another prompt."""
    plain = [" ".join(text.lower().split()) for text in texts]
    answered = Counter(text for text, _ in set(zip(plain, prompts, strict=True)))
    return [answered[text] > 1 for text in plain]


def within_sd(scores: Sequence[Sequence[float]]) -> float:
    """The mean over prompts of the standard deviation of a score among a prompt's replies (divided by n, not n - 1)."""
    return float(np.mean([np.std(group) for group in scores]))


def within_correlation(
    scores: Sequence[Sequence[float]], groups: Groups, *, size: Callable[[str], float]
) -> float | None:
    """The mean over prompts of Pearson's correlation, among a prompt's replies, of a score with the text's `size`.

    Prompts whose scores or sizes are all alike have none and are left out; null where that is all of them.
    """
    found = [
        float(np.corrcoef(group, sizes)[0, 1])
        for group, texts in zip(scores, groups, strict=True)
        if np.ptp(group) > 0 and np.ptp(sizes := [size(text) for text in texts]) > 0
    ]
    return float(np.mean(found)) if found else None


def word_count(text: str) -> int:
    """The number of words of a text."""
    return len(text.split())


def similarity(previous: str, text: str) -> float:
    """How much two texts share as word sequences, 0 to 1: twice the matched words over all (difflib's ratio)."""
    return SequenceMatcher(None, previous.split(), text.split()).ratio()


def describe_chains(chains: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Revision chains, first text first, step by step: similarity to the previous text, unchanged, mean characters.

    `similarity` and `unchanged` (a count) have one entry a revision, `mean_chars` also one for the first text. Raises
    ValueError without chains or where they differ in length.
    """
    if not chains or len({len(chain) for chain in chains}) > 1:
        raise ValueError("revision chains must be there, and be of one length")
    columns = list(zip(*chains, strict=True))
    steps = [list(zip(*pair, strict=True)) for pair in pairwise(columns)]
    return {
        "n": len(chains),
        "similarity": [float(np.mean([similarity(*pair) for pair in step])) for step in steps],
        "unchanged": [sum(before == after for before, after in step) for step in steps],
        "mean_chars": [float(np.mean([len(text) for text in column])) for column in columns],
    }
