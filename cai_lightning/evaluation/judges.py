"""Who decides between two answers, and what is measured on one: the protocol, and a language model as judge."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from cai_lightning.text.backends import Query, Scorer
from cai_lightning.text.dialogue import Dialogue, to_text

LETTERS = (" (A)", " (B)")
MEASURES = ("harmful", "evasive", "help", "refusal")


class Judge(Protocol):
    """Evaluates players, never trains them."""

    def criteria_for(self, kind: str) -> Sequence[str]:
        """The criteria under which answers to prompts of this kind are compared."""

    def compare(self, criterion: str, dialogue: Dialogue, a: str, b: str) -> float:
        """The score of reply a against b: win 1, tie 0.5, loss 0."""

    def assess(self, dialogue: Dialogue, reply: str) -> dict[str, float | None]:
        """What one reply shows by itself, 0 to 1 each; null where the judge cannot tell."""


class LetterJudge:
    """A language model that answers (A) or (B): the mean log-odds over both orders decide, 0 is a tie.

    `principles`: criterion -> the words that ask for it. `kinds`: kind of prompt -> its criteria.
    `template` has {conversation}, {principle}, {a} and {b}. A reply counts as evasive when it holds one of
    `phrases` and has at most `longest` words; that is a surface rule, and nothing else is assessed.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        principles: Mapping[str, str],
        kinds: Mapping[str, Sequence[str]],
        template: str,
        phrases: Sequence[str],
        longest: int,
    ) -> None:
        unknown = sorted({name for names in kinds.values() for name in names} - set(principles))
        if unknown:
            raise ValueError(f"judge has no principle for criterion {unknown[0]!r}: add it to principles")
        self.scorer = scorer
        self.principles = dict(principles)
        self.kinds = {kind: tuple(names) for kind, names in kinds.items()}
        self.template = template
        self.phrases = tuple(_plain(phrase) for phrase in phrases)
        self.longest = longest

    def criteria_for(self, kind: str) -> Sequence[str]:
        """The criteria set for this kind of prompt; none for a kind that was not named."""
        return self.kinds.get(kind, ())

    def compare(self, criterion: str, dialogue: Dialogue, a: str, b: str) -> float:
        """Win 1, tie 0.5 or loss 0 of a against b."""
        logit = self.log_odds(criterion, dialogue, a, b)
        return 0.5 if logit == 0 else float(logit > 0)

    def log_odds(self, criterion: str, dialogue: Dialogue, a: str, b: str) -> float:
        """Log-odds in nats that a is better, averaged over both orders: an additive letter bias cancels."""
        (ab_first, ab_second), (ba_first, ba_second) = self.scorer.score(
            [self._query(criterion, dialogue, a, b), self._query(criterion, dialogue, b, a)]
        )
        return ((ab_first - ab_second) + (ba_second - ba_first)) / 2

    def _query(self, criterion: str, dialogue: Dialogue, a: str, b: str) -> Query:
        principle = self.principles[criterion]
        text = self.template.format(conversation=to_text(dialogue), principle=principle, a=a, b=b)
        return Query(text, LETTERS)

    def assess(self, dialogue: Dialogue, reply: str) -> dict[str, float | None]:
        """Evasive or not by the stated rule; the other measures are null."""
        del dialogue
        words = _plain(reply)
        evasive = len(reply.split()) <= self.longest and any(phrase in words for phrase in self.phrases)
        return dict.fromkeys(MEASURES) | {"evasive": float(evasive)}


def _plain(text: str) -> str:
    """Lower case, one space between words, straight apostrophes: so that phrases match."""
    return re.sub(r"\s+", " ", text.replace("\u2019", "'")).strip().lower()
