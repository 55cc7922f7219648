"""Labels from a feedback model: two replies as a multiple-choice question, P(a is better) from the letters.

Bai et al. 2022, section 4.1: the normalised probabilities of "(A)" and "(B)" are the soft label; every question
shows one principle, drawn anew. Which reply stands first is a choice of `Order`, since judges prefer a slot.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

from cai_lightning.constitution.principles import Constitution, Principle, draw
from cai_lightning.text.backends import Query, Scorer
from cai_lightning.text.dialogue import Dialogue, to_text
from cai_lightning.text.records import Comparison, Label

LETTERS = (" (A)", " (B)")

# (seed, row id) -> the orders to ask in: False has a in slot A, True has it in slot B
Order = Callable[[int, str], tuple[bool, ...]]


def fixed(_seed: int, _row: str) -> tuple[bool, ...]:
    """One question, a first."""
    return (False,)


def random_order(seed: int, row: str) -> tuple[bool, ...]:
    """One question; a coin keyed by (seed, row) says which reply stands first."""
    return (hashlib.sha256(f"order/{seed}/{row}".encode()).digest()[0] % 2 == 1,)


def both_orders(_seed: int, _row: str) -> tuple[bool, ...]:
    """Two questions, one in each order."""
    return (False, True)


def comparison_query(template: str, dialogue: Dialogue, principle: Principle, first: str, second: str) -> str:
    """The question with `first` in slot A; it ends where a letter is due."""
    return template.format(conversation=to_text(dialogue), principle=principle.comparison, a=first, b=second)


def few_shot_prefix(constitution: Constitution, *, seed: int) -> str:
    """The solved examples, one text for a whole run: each with a principle of its own, letters balanced to one.

    The files of the paper give better and worse replies without letters, so the letters come from the seed.
    """
    examples = constitution.comparison_few_shots
    ranks = sorted(range(len(examples)), key=lambda i: hashlib.sha256(f"letter/{seed}/{i}".encode()).digest())
    start = random_order(seed, "few-shots")[0]
    text = ""
    for i, example in enumerate(examples):
        principle = draw(constitution.comparing, seed=seed, row=f"few-shot/{i}", round=0, replacement=True)
        better_is_b = (ranks.index(i) + start) % 2 == 1
        first, second = (example.worse, example.better) if better_is_b else (example.better, example.worse)
        text += comparison_query(constitution.comparison_template, example.dialogue, principle, first, second)
        text += LETTERS[better_is_b]
    return text


def label(
    scorer: Scorer,
    comparisons: Sequence[Comparison],
    constitution: Constitution,
    *,
    order: Order,
    clamp: tuple[float, float] | None,
    hard: bool,
    seed: int,
    weight: float,
    model: str,
) -> list[Label]:
    """One label a comparison: the log-odds in nats that a is better in each order asked, and p_a.

    p_a is the sigmoid of the mean log-odds; over both orders an additive slot bias cancels exactly. `hard` makes
    it 0 or 1, or 0.5 where the log-odds are 0 or the orders disagree. `clamp` (low, high) comes last. The
    principle is keyed by (seed, row id). Raises ValueError naming the row when a letter's score is not finite.
    """
    if clamp is not None and not 0 <= clamp[0] <= clamp[1] <= 1:
        raise ValueError(f"clamp: is {tuple(clamp)}; it must be (low, high) with 0 <= low <= high <= 1")
    prefix = few_shot_prefix(constitution, seed=seed)
    drawn = [draw(constitution.comparing, seed=seed, row=row.id, round=0, replacement=True) for row in comparisons]
    asked = [(index, swapped) for index, row in enumerate(comparisons) for swapped in order(seed, row.id)]
    queries = [
        Query(prefix + _question(constitution, comparisons[index], drawn[index], swapped), LETTERS)
        for index, swapped in asked
    ]
    logits: list[dict[bool, float]] = [{} for _ in comparisons]
    for (index, swapped), scores in zip(asked, scorer.score(queries), strict=True):
        logits[index][swapped] = _log_odds(scores, swapped, comparisons[index].id)
    return [
        Label(
            id=row.id,
            prompt=row.prompt,
            a=row.a,
            b=row.b,
            p_a=probability(tuple(found.values()), clamp=clamp, hard=hard),
            logit_ab=found.get(False),
            logit_ba=found.get(True),
            principle=principle.id,
            principle_hash=principle.hash,
            model=model,
            source=row.source,
            weight=weight,
        )
        for row, principle, found in zip(comparisons, drawn, logits, strict=True)
    ]


def _question(constitution: Constitution, row: Comparison, principle: Principle, swapped: bool) -> str:
    first, second = (row.b, row.a) if swapped else (row.a, row.b)
    return comparison_query(constitution.comparison_template, row.prompt.dialogue, principle, first, second)


def probability(logits: Sequence[float], *, clamp: tuple[float, float] | None, hard: bool) -> float:
    """P(a is better) from its log-odds in one or two orders; see `label`."""
    if hard:
        votes = {(logit > 0) - (logit < 0) for logit in logits}
        p = (votes.pop() + 1) / 2 if len(votes) == 1 else 0.5
    else:
        mean = math.fsum(logits) / len(logits)
        # of the two equal forms, the one whose exponential cannot overflow
        p = 1 / (1 + math.exp(-mean)) if mean >= 0 else math.exp(mean) / (1 + math.exp(mean))
    return p if clamp is None else min(max(p, clamp[0]), clamp[1])


def _log_odds(scores: tuple[float, ...], swapped: bool, row: str) -> float:
    if len(scores) != 2 or not all(map(math.isfinite, scores)):
        raise ValueError(f"comparison {row}: the letters (A), (B) scored {scores}; both must be finite")
    return scores[1] - scores[0] if swapped else scores[0] - scores[1]
