"""Ways to ask a language model lettered questions: for the letter at once, or after it has thought."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from cai_lightning.constitution.reasoning import example, thought
from cai_lightning.constitution.styles import Steps, Style, after, turn
from cai_lightning.data.questions import Question
from cai_lightning.text.backends import Generator, Query, Request, Sampling, Scorer
from cai_lightning.text.records import fingerprint

Ask: TypeAlias = Callable[[Sequence[Question]], list[tuple[float, ...]]]
"""Questions -> the log-probabilities in nats of the letters of each, up to a constant a question."""


class Backend(Generator, Scorer, Protocol):
    """Samples and scores."""


def letters(scorer: Scorer, *, style: Style, few_shots: Sequence[str], solved: Sequence[Question]) -> Ask:
    """Asks for the letter at once, after solved examples: texts, whose last paragraph is the answer, and questions."""
    shown = [*map(_text_example, few_shots), *map(_example, solved)]

    def ask(questions: Sequence[Question]) -> list[tuple[float, ...]]:
        return scorer.score([Query(style(shown, _asked(question)), question.letters) for question in questions])

    return ask


def reasoned(
    backend: Backend,
    *,
    style: Style,
    few_shots: Sequence[str],
    solved: Sequence[Question],
    template: str,
    opening: str,
    short: bool,
    answer: str,
    samples: int,
    temperature: float,
    max_new_tokens: int,
    stop: Sequence[str],
    seed: int,
) -> Ask:
    """Asks for the letter after sampled thoughts (Bai et al. 2022, section 4.1); probabilities are averaged over them.

    A question is put by `template` (`Question.asked`, with `short`), the model goes on from `opening`, `answer` follows
    its thought, then the letter. Each order of the options has thoughts of its own. `solved` questions show no thought
    and are refused.
    """
    if solved:
        raise ValueError("shots: solved questions hold no thoughts to show; give few_shots that do, or 0 shots")
    shown = [example(text, opening=opening, answer=answer) for text in few_shots]
    sampling = Sampling(temperature, max_new_tokens, tuple(stop), seed)

    def ask(questions: Sequence[Question]) -> list[tuple[float, ...]]:
        asked: list[Steps] = [
            (turn("human", question.asked(template, short=short)), turn("assistant", opening)) for question in questions
        ]
        each = [(place, number) for place in range(len(questions)) for number in range(samples)]
        requests = [
            Request(f"{fingerprint(questions[place].prompt)}/thought/{number}", style(shown, asked[place]))
            for place, number in each
        ]
        done = backend.generate(requests, sampling)
        queries = [
            Query(style(shown, (*asked[place], *thought(words.text, answer=answer))), questions[place].letters)
            for (place, _), words in zip(each, done, strict=True)
        ]
        scores = backend.score(queries)
        return [_averaged(scores[at : at + samples]) for at in range(0, len(scores), samples)]

    return ask


def _asked(question: Question) -> Steps:
    """The question and its answer line; as text, the prompt of the file byte for byte."""
    return (
        turn("human", question.prompt.removesuffix(question.answer_line)),
        turn("assistant", question.answer_line),
    )


def _example(question: Question) -> Steps:
    steps = _asked(question)
    return *steps, after(steps, question.letters[question.gold])


def _text_example(text: str) -> Steps:
    asked, mark, answered = text.rpartition("\n\n")
    return turn("human", asked), turn("assistant", mark + answered)


def _averaged(scores: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """The logarithm of the mean over samples of the letters' probabilities, which sum to 1 within each sample."""
    normalised = [[value - _log_sum(row) for value in row] for row in scores]
    return tuple(_log_sum(column) - math.log(len(scores)) for column in zip(*normalised, strict=True))


def _log_sum(values: Sequence[float]) -> float:
    largest = max(values)
    if not math.isfinite(largest):
        return largest
    return largest + math.log(sum(math.exp(value - largest) for value in values))
