"""Labels from a feedback model: two replies as a multiple-choice question, P(a is better) from the letters.

Bai et al. 2022, section 4.1: the normalised probabilities of "(A)" and "(B)" are the soft label; every question
shows one principle, drawn anew. With chain of thought the model reasons before each letter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cai_lightning.constitution.questions import Asking, Question
from cai_lightning.constitution.reasoning import Reasoning
from cai_lightning.text.backends import Generator, Query, Request, Sampling, Scorer
from cai_lightning.text.records import Comparison, Label, fingerprint

Pool = Callable[[Sequence[float]], float]
"""Several log-odds in nats -> one."""


@dataclass(frozen=True)
class Thinking:
    """Reasoning before the letter: who reasons, how many times about each question, how that is sampled."""

    generator: Generator
    samples: int
    sampling: Sampling


def label(
    scorer: Scorer,
    comparisons: Sequence[Comparison],
    asking: Asking,
    *,
    thinking: Thinking | None,
    clamp: tuple[float, float] | None,
    hard: bool,
    weight: float,
    model: str,
) -> list[Label]:
    """One label a comparison: the log-odds in nats that a is better in each order asked, and p_a.

    Letters alone: p_a is the sigmoid of the mean log-odds of all questions; over both orders an additive slot bias
    cancels exactly. With thoughts: the mean probability of all thoughts, as in the paper, for log-odds after a thought
    are extreme and the largest would decide. `hard` makes p_a 0 or 1, or 0.5 where the log-odds are 0 or the orders
    disagree. `clamp` (low, high) comes last. Raises ValueError naming the row when a letter's score is not finite.
    """
    if clamp is not None and not 0 <= clamp[0] <= clamp[1] <= 1:
        raise ValueError(f"clamp: is {tuple(clamp)}; it must be (low, high) with 0 <= low <= high <= 1")
    asked = [(place, question) for place, row in enumerate(comparisons) for question in asking.questions(row)]
    thoughts, queries = _queries([question for _, question in asked], asking, thinking)
    answers: list[list[_Answer]] = [[] for _ in comparisons]
    each = thinking.samples if thinking else 1
    for number, (scores, thought) in enumerate(zip(scorer.score(queries), thoughts, strict=True)):
        place, question = asked[number // each]
        answers[place].append(_Answer(question, thought, *_read(scores, question.swapped, comparisons[place].id)))
    pool = mean_probability if thinking else mean_log_odds
    return [
        _label(row, found, pool=pool, clamp=clamp, hard=hard, weight=weight, model=model)
        for row, found in zip(comparisons, answers, strict=True)
    ]


@dataclass(frozen=True)
class _Answer:
    """What came of one question: the thought if there was one, the log-odds of a, P(A) + P(B)."""

    question: Question
    thought: str | None
    logit: float
    mass: float


def _queries(
    questions: Sequence[Question], asking: Asking, thinking: Thinking | None
) -> tuple[list[str | None], list[Query]]:
    """The thoughts about every question, one after the other, and the queries after them."""
    if thinking is None or not isinstance(asking.form, Reasoning):
        return [None] * len(questions), [question.query() for question in questions]
    requests = [
        Request(f"{question.name}/{sample}", question.prompt)
        for question in questions
        for sample in range(thinking.samples)
    ]
    stop = tuple(dict.fromkeys((*asking.form.stop, *thinking.sampling.stop)))
    done = thinking.generator.generate(requests, replace(thinking.sampling, stop=stop))
    thoughts = [completion.text.rstrip() for completion in done]
    queries = [
        questions[number // thinking.samples].query(*asking.form.thought(words))
        for number, words in enumerate(thoughts)
    ]
    return [*thoughts], queries


def _label(
    row: Comparison,
    answers: Sequence[_Answer],
    *,
    pool: Pool,
    clamp: tuple[float, float] | None,
    hard: bool,
    weight: float,
    model: str,
) -> Label:
    orders = {
        swapped: pool([answer.logit for answer in answers if answer.question.swapped == swapped])
        for swapped in dict.fromkeys(answer.question.swapped for answer in answers)
    }
    principles = list(dict.fromkeys(answer.question.principle for answer in answers))
    return Label(
        id=row.id,
        prompt=row.prompt,
        a=row.a,
        b=row.b,
        p_a=probability(tuple(orders.values()), pool=pool, clamp=clamp, hard=hard),
        logit_ab=orders.get(False),
        logit_ba=orders.get(True),
        principle="+".join(principle.id for principle in principles),
        principle_hash=joined_hash([principle.hash for principle in principles]),
        model=model,
        source=row.source,
        weight=weight,
        logits=tuple(answer.logit for answer in answers),
        thoughts=tuple(answer.thought for answer in answers if answer.thought is not None),
        letter_mass=math.fsum(answer.mass for answer in answers) / len(answers),
    )


def mean_log_odds(logits: Sequence[float]) -> float:
    """The mean of log-odds in nats."""
    return math.fsum(logits) / len(logits)


def mean_probability(logits: Sequence[float]) -> float:
    """The log-odds in nats of the mean of the probabilities."""
    # both sides are summed, for 1 - p would round to 0 where all are sure; the least float keeps the log finite
    least = math.ulp(0.0)
    return math.log(max(math.fsum(map(sigmoid, logits)), least)) - math.log(
        max(math.fsum(sigmoid(-logit) for logit in logits), least)
    )


def sigmoid(logit: float) -> float:
    """The probability of log-odds in nats."""
    # of the two equal forms, the one whose exponential cannot overflow
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def probability(logits: Sequence[float], *, pool: Pool, clamp: tuple[float, float] | None, hard: bool) -> float:
    """P(a is better) from its log-odds in one or two orders; see `label`."""
    if hard:
        votes = set(map(sign, logits))
        p = (votes.pop() + 1) / 2 if len(votes) == 1 else 0.5
    else:
        p = sigmoid(pool(logits))
    return clamped(p, clamp)


def clamped(p: float, clamp: tuple[float, float] | None) -> float:
    """A probability brought into `clamp` (low, high); null leaves it."""
    return p if clamp is None else min(max(p, clamp[0]), clamp[1])


def sign(logit: float) -> int:
    """1 where log-odds prefer a, -1 where b, 0 where neither."""
    return (logit > 0) - (logit < 0)


def joined_hash(hashes: Sequence[str]) -> str:
    """The hash of the principles of one label: that of the only one, or of all in their order."""
    return hashes[0] if len(hashes) == 1 else fingerprint("+".join(hashes))


def _read(scores: tuple[float, ...], swapped: bool, row: str) -> tuple[float, float]:
    """The log-odds of a, and the probability that the answer is a letter at all."""
    if len(scores) != 2 or not all(map(math.isfinite, scores)):
        raise ValueError(f"comparison {row}: the letters (A), (B) scored {scores}; both must be finite")
    return scores[1] - scores[0] if swapped else scores[0] - scores[1], math.exp(scores[0]) + math.exp(scores[1])
