"""Baselines of preference: logistic regression on the words of two replies, and "the shorter one".

A reward model that does not beat them has learned no more than words or lengths. Bradley-Terry without intercept:
P(a is better) = sigma(w . (x(a) - x(b))), where x marks which words and word sequences a reply holds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cai_lightning.evaluation.intervals import Floats

_STEPS, _CLOSE = 50, 1e-8
Bags: TypeAlias = tuple[set[str], set[str]]  # the word sequences of a and of b


class Pair(NamedTuple):
    """Two replies, P(a is better), the weight in the loss, and what folds keep together."""

    a: str
    b: str
    p_a: float
    weight: float
    cluster: str


@dataclass(frozen=True)
class Sparse:
    """A matrix [rows, columns] by its entries that are not 0."""

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    value: Floats
    shape: tuple[int, int]

    def times(self, vector: Floats) -> Floats:
        """The product with a vector (columns,): (rows,)."""
        return np.asarray(np.bincount(self.row, self.value * vector[self.column], minlength=self.shape[0]), np.float64)

    def transposed_times(self, vector: Floats) -> Floats:
        """The transposed matrix's product with a vector (rows,): (columns,)."""
        return np.asarray(np.bincount(self.column, self.value * vector[self.row], minlength=self.shape[1]), np.float64)


@dataclass(frozen=True)
class BagOfWords:
    """The fitted model: the place of each word sequence, its weights in nats, and the L2 strength chosen."""

    grams: dict[str, int]
    weights: Floats
    l2: float
    token: str
    longest: int

    def log_odds(self, pairs: Sequence[Pair]) -> Floats:
        """Log-odds in nats that a is better, (pairs,); 0 where the replies hold the same known words."""
        return differences(_bags(pairs, self.token, self.longest), self.grams).times(self.weights)


def fit_bag_of_words(
    pairs: Sequence[Pair], *, token: str, longest: int, least: int, l2: Sequence[float], folds: int
) -> BagOfWords:
    """The model of word sequences of 1 to `longest` tokens that occur in at least `least` replies.

    `token` is a regular expression, searched in lower case. Of several `l2` the one with the smallest cross-validated
    loss is taken; folds keep clusters together and are numbered in order of appearance, so nothing is random. Raises
    ValueError without pairs, or with fewer than 2 folds.
    """
    if not pairs or folds < 2:
        raise ValueError(f"bag of words: {len(pairs)} pairs in {folds} folds given; needs pairs and at least 2 folds")
    bags = _bags(pairs, token, longest)
    p, weight = np.array([pair.p_a for pair in pairs]), np.array([pair.weight for pair in pairs])
    losses = dict.fromkeys(l2, 0.0)
    fold = _folds(pairs, folds)
    for number in range(folds if len(losses) > 1 else 0):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        grams = vocabulary([bags[row] for row in train], least=least)
        x, held_out = (differences([bags[row] for row in rows], grams) for rows in (train, test))
        for strength in losses:
            logits = held_out.times(logistic(x, p[train], weight[train], l2=strength))
            losses[strength] += float((weight[test] * (np.logaddexp(0, logits) - p[test] * logits)).sum())
    best = min(losses, key=losses.__getitem__)
    grams = vocabulary(bags, least=least)
    return BagOfWords(grams, logistic(differences(bags, grams), p, weight, l2=best), best, token, longest)


def _folds(pairs: Sequence[Pair], folds: int) -> NDArray[np.int64]:
    order = {cluster: number for number, cluster in enumerate(dict.fromkeys(pair.cluster for pair in pairs))}
    return np.array([order[pair.cluster] % folds for pair in pairs])


def _bags(pairs: Sequence[Pair], token: str, longest: int) -> list[Bags]:
    def grams(text: str) -> set[str]:
        tokens = re.findall(token, text.lower())
        return {" ".join(tokens[i : i + size]) for size in range(1, longest + 1) for i in range(len(tokens) - size + 1)}

    return [(grams(pair.a), grams(pair.b)) for pair in pairs]


def vocabulary(bags: Sequence[Bags], *, least: int) -> dict[str, int]:
    """Word sequence -> its column, of those in at least `least` replies, in alphabetical order."""
    counts = Counter(gram for pair in bags for bag in pair for gram in bag)
    return {gram: column for column, gram in enumerate(sorted(g for g, count in counts.items() if count >= least))}


def differences(bags: Sequence[Bags], grams: dict[str, int]) -> Sparse:
    """Which known word sequences a holds (1) that b does not, and b that a does not (-1), [pairs, grams]."""
    found = [
        (row, grams[gram], 1.0 if gram in a else -1.0)
        for row, (a, b) in enumerate(bags)
        for gram in sorted(a ^ b)
        if gram in grams
    ]
    row, column, value = (np.array(part) for part in zip(*found, strict=True)) if found else np.zeros((3, 0))
    return Sparse(row.astype(np.int64), column.astype(np.int64), value, (len(bags), len(grams)))


def logistic(x: Sparse, p: Floats, weight: Floats, *, l2: float) -> Floats:
    """The weights (columns,) that minimise the weighted cross-entropy with targets p plus l2 / 2 |w|².

    Newton's method, each step solved by conjugate gradients. Raises ValueError if it does not settle.
    """
    w = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        share = (1 + np.tanh(x.times(w) / 2)) / 2
        gradient = x.transposed_times(weight * (share - p)) + l2 * w
        step = _solve(x, weight * share * (1 - share), l2, -gradient)
        w += step
        if np.abs(step).max(initial=0) < _CLOSE:
            return w
    raise ValueError(f"bag of words: no optimum in {_STEPS} Newton steps at l2 {l2}; use a larger l2")


def _solve(x: Sparse, curvature: Floats, l2: float, right: Floats) -> Floats:
    """s with (xᵀ diag(curvature) x + l2) s = right."""
    solution = np.zeros_like(right)
    residual, direction, size = right.copy(), right.copy(), float(right @ right)
    enough = 1e-20 * size
    while size > enough:
        product = x.transposed_times(curvature * x.times(direction)) + l2 * direction
        length = size / float(direction @ product)
        solution += length * direction
        residual -= length * product
        size, before = float(residual @ residual), size
        direction = residual + size / before * direction
    return solution


def shorter_hits(pairs: Sequence[Pair]) -> list[float]:
    """Whether the reply of fewer characters is the better one, pair by pair; one half where lengths are equal."""
    return hits([float(len(pair.b) - len(pair.a)) for pair in pairs], pairs)


def hits(preferences: Sequence[float] | Floats, pairs: Sequence[Pair]) -> list[float]:
    """1 where the sign of a preference for a agrees with p_a, 0 where it does not, one half for none."""
    return [
        0.5 if value == 0 else float((value > 0) == (pair.p_a > 0.5))
        for value, pair in zip(preferences, pairs, strict=True)
    ]


def describe(model: BagOfWords, *, shown: int) -> dict[str, Any]:
    """The L2 strength, the number of features, and the `shown` word sequences that speak most for and against."""
    order = sorted(model.grams, key=lambda gram: (-model.weights[model.grams[gram]], gram))
    top, bottom = order[:shown], order[::-1][:shown]
    return {
        "l2": model.l2,
        "features": len(model.grams),
        "better": {gram: float(model.weights[model.grams[gram]]) for gram in top},
        "worse": {gram: float(model.weights[model.grams[gram]]) for gram in bottom},
    }
