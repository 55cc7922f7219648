"""Accuracy of a language model on lettered questions, asked in both orders, with a conversation-clustered interval.

The released files keep one option order (one always lists "harmful" first), so a model that prefers a slot would
look skilled or useless by it: an option's score is its mean log-probability over both orders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cai_lightning.data.questions import Question
from cai_lightning.evaluation.asking import Ask
from cai_lightning.evaluation.intervals import wilson

Floats = NDArray[np.float64]


def evaluate(ask: Ask, questions: Sequence[Question], *, resamples: int, seed: int) -> dict[str, Any]:
    """Accuracy in 0..1 with its 95 % interval, and the model's slot preference in nats.

    `accuracy` uses the mean over both orders of the letters' log-probabilities (for two options: the mean logit),
    `first_order_accuracy` only the order of the file; options that tie share the point. `low`, `high`: percentiles
    of a bootstrap over conversations. `position_bias`: mean log-odds of the first slot against the last over both
    orders, in which the content cancels. `n` questions, `clusters` conversations. For comparison: `always_first`, the
    accuracy of always saying the first letter of the file, and where all questions have the same options `majority`,
    that of always naming the commonest right one, and `classes`, the accuracy and n of each right option (else null
    and empty). Raises ValueError without questions or on a score that is not finite.
    """
    answers = answered(ask, questions)
    points, first_points, biases = ([getattr(one, name) for one in answers] for name in Answered._fields)
    low, high, clusters = _interval(points, [question.cluster for question in questions], resamples, seed)
    return {
        "accuracy": float(np.mean(points)),
        "low": low,
        "high": high,
        "n": len(questions),
        "clusters": clusters,
        "first_order_accuracy": float(np.mean(first_points)),
        "position_bias": float(np.mean(biases)),
        **baselines(questions),
        "classes": _classes(questions, points),
    }


class Answered(NamedTuple):
    """One question: whether it is right by both orders, by the file's alone, and the lead of the first slot in nats."""

    right: float
    right_first: float
    position_bias: float


def answered(ask: Ask, questions: Sequence[Question]) -> list[Answered]:
    """What came of each question, asked in both orders; errors as of `evaluate`."""
    if not questions:
        raise ValueError("no questions to evaluate")
    scores = ask([*questions, *(question.swapped() for question in questions)])
    found = []
    for question, given, reverse in zip(questions, scores[: len(questions)], scores[len(questions) :], strict=True):
        first, second = np.asarray(given), np.asarray(reverse)
        if not (np.isfinite(first).all() and np.isfinite(second).all()):
            raise ValueError(f"question {question.id}: letters scored {given} and {reverse}; all must be finite")
        lead = float((first[0] - first[-1] + second[0] - second[-1]) / 2)
        found.append(Answered(_point(first + second[::-1], question.gold), _point(first, question.gold), lead))
    return found


def baselines(questions: Sequence[Question]) -> dict[str, float | None]:
    """`always_first` and `majority`: what is right without reading a conversation; null where options differ."""
    count = len(questions)
    answers = Counter(question.options[question.gold] for question in questions)
    return {
        "always_first": sum(question.gold == 0 for question in questions) / count,
        "majority": max(answers.values()) / count if _same_options(questions) else None,
    }


def _classes(questions: Sequence[Question], points: Sequence[float]) -> dict[str, dict[str, float]]:
    if not _same_options(questions):
        return {}
    found: dict[str, list[float]] = {option: [] for option in sorted(questions[0].options)}
    for question, point in zip(questions, points, strict=True):
        found[question.options[question.gold]].append(point)
    return {option: {"accuracy": float(np.mean(each)), "n": len(each)} for option, each in found.items() if each}


def _same_options(questions: Sequence[Question]) -> bool:
    return len({frozenset(question.options) for question in questions}) == 1


def _point(scores: Floats, gold: int) -> float:
    best = scores == scores.max()
    return float(best[gold] / best.sum())


def _interval(points: Sequence[float], names: Sequence[str], resamples: int, seed: int) -> tuple[float, float, int]:
    """(low, high, number of clusters); a replicate is the mean over the rows of the clusters drawn.

    Wilson's interval on the clusters where all points are alike, for there a bootstrap has no spread.
    """
    _, index = np.unique(np.asarray(names), return_inverse=True)
    sizes = np.bincount(index).astype(np.float64)
    sums = np.bincount(index, weights=np.asarray(points))
    if np.ptp(points) == 0:
        return *wilson(float(points[0]) * len(sizes), len(sizes)), len(sizes)
    drawn = np.random.default_rng(seed).integers(len(sizes), size=(resamples, len(sizes)))
    low, high = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), (0.025, 0.975))
    return float(low), float(high), len(sizes)
