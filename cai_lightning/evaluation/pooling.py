"""What a constitution says of a pair, from what each of its principles says: P(a is better) for sets of principles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cai_lightning.evaluation.intervals import Floats

Pool = Callable[[Floats, Floats], Floats]
"""Log-odds in nats (pairs, principles), weights (sets, principles) that sum to 1 a row -> P(a) (pairs, sets)."""


def mean_probability(logits: Floats, weights: Floats) -> Floats:
    """The mean of the principles' probabilities: what labels under one drawn principle are on average (section 4.1)."""
    return sigmoid(logits) @ weights.T


def mean_log_odds(logits: Floats, weights: Floats) -> Floats:
    """The sigmoid of the principles' mean log-odds: a principle that is sure counts for more."""
    return sigmoid(logits @ weights.T)


def sigmoid(logits: Floats) -> Floats:
    """The probability of log-odds in nats; by way of tanh, which cannot overflow."""
    return np.asarray(0.5 + 0.5 * np.tanh(logits / 2))


def whole(count: int) -> Floats:
    """Weights (1, count) of all principles alike."""
    return np.full((1, count), 1 / count)


def without(count: int) -> Floats:
    """Weights (count, count): row i is all principles but i. Raises ValueError where nothing would be left."""
    if count < 2:
        raise ValueError(f"the constitution has {count} principle that compares; to leave one out takes two")
    return (1 - np.eye(count)) / (count - 1)


def swapped(count: int) -> Floats:
    """Weights (count, count, count): [i, j] gives the voice of principle i to principle j, which then has two."""
    identity = np.eye(count)
    return 1 / count + (identity[None, :, :] - identity[:, None, :]) / count
