"""Ways to ask a language model lettered questions: for the letter at once, or after it has thought."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from cai_lightning.data.questions import Question
from cai_lightning.text.backends import Generator, Query, Request, Sampling, Scorer
from cai_lightning.text.records import fingerprint

Ask: TypeAlias = Callable[[Sequence[Question]], list[tuple[float, ...]]]
"""Questions -> the log-probabilities in nats of the letters of each, up to a constant a question."""


class Backend(Generator, Scorer, Protocol):
    """Samples and scores."""


def letters(scorer: Scorer, *, prefix: str) -> Ask:
    """Asks for the letter at once, `prefix` (solved examples, or nothing) before each question."""

    def ask(questions: Sequence[Question]) -> list[tuple[float, ...]]:
        return scorer.score([Query(prefix + question.prompt, question.letters) for question in questions])

    return ask


def reasoned(
    backend: Backend,
    *,
    prefix: str,
    template: str,
    short: bool,
    answer: str,
    samples: int,
    temperature: float,
    max_new_tokens: int,
    stop: Sequence[str],
    seed: int,
) -> Ask:
    """Asks for the letter after sampled thoughts (Bai et al. 2022, section 4.1); probabilities are averaged over them.

    A question is put by `template` (`Question.asked`, with `short`), the model goes on from it, `answer` follows its
    thought, then the letter. Each order of the options has thoughts of its own.
    """
    sampling = Sampling(temperature, max_new_tokens, tuple(stop), seed)

    def ask(questions: Sequence[Question]) -> list[tuple[float, ...]]:
        prompts = [prefix + question.asked(template, short=short) for question in questions for _ in range(samples)]
        names = [f"{fingerprint(prompt)}/thought/{number % samples}" for number, prompt in enumerate(prompts)]
        thoughts = backend.generate([Request(*row) for row in zip(names, prompts, strict=True)], sampling)
        due = [prompt + _led(done.text) + answer for prompt, done in zip(prompts, thoughts, strict=True)]
        asked = [question.letters for question in questions for _ in range(samples)]
        scores = backend.score([Query(*query) for query in zip(due, asked, strict=True)])
        return [_averaged(scores[at : at + samples]) for at in range(0, len(scores), samples)]

    return ask


def _led(thought: str) -> str:
    return (" " if thought and not thought[0].isspace() else "") + thought.rstrip()


def _averaged(scores: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """The logarithm of the mean over samples of the letters' probabilities, which sum to 1 within each sample."""
    normalised = [[value - _log_sum(row) for value in row] for row in scores]
    return tuple(_log_sum(column) - math.log(len(scores)) for column in zip(*normalised, strict=True))


def _log_sum(values: Sequence[float]) -> float:
    largest = max(values)
    if not math.isfinite(largest):
        return largest
    return largest + math.log(sum(math.exp(value - largest) for value in values))
