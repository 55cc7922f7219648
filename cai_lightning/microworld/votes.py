"""Simulated readers who vote on answers: cheap, plentiful and noisy, as the votes under questions on the web are."""

from __future__ import annotations

import random
from collections.abc import Sequence

from cai_lightning.microworld import replies
from cai_lightning.microworld.world import Benign, request_of
from cai_lightning.text.records import Prompt, Ranked

MOST_WRONG = 4


def ranked_answers(
    *, prompts: Sequence[Prompt], answers: int, readers: int, attention: float, seed: int
) -> list[Ranked]:
    """`answers` answers to each prompt, each with 0 to 4 random facts wrong, as likely, and its votes.

    Each of `readers` readers votes for an answer with probability `attention` times its share of right slots, so votes
    are binomial counts: with 40 readers and 0.5 a fact more is worth 2.9 votes, and the difference of two counts has a
    standard deviation of 4.4. Raises ValueError on a red-team prompt: no reply to it is helpful.
    """
    rows = []
    for prompt in prompts:
        rng = random.Random(f"votes {seed} {prompt.id}")
        request = request_of(prompt.dialogue)
        if not isinstance(request, Benign):
            raise ValueError(f"prompt {prompt.id}: nobody votes on replies to {prompt.kind} prompts; drop it")
        wrong = [rng.randrange(MOST_WRONG + 1) for _ in range(answers)]
        texts = tuple(replies.answer_with_wrong(rng, request, count) for count in wrong)
        votes = tuple(_votes(rng, readers, attention * (1 - count / replies.SLOTS)) for count in wrong)
        rows.append(Ranked(id=prompt.id, prompt=prompt, answers=texts, votes=votes))
    return rows


def _votes(rng: random.Random, readers: int, probability: float) -> float:
    return float(sum(rng.random() < probability for _ in range(readers)))
