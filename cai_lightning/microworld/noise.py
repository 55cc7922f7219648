"""Every error and every share of the pretraining text, as explicit rates; the model learns its mistakes from these."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Principles:
    """Which principles occur: the shares of general ones and, among the narrow, of those with one category."""

    general: float
    single: float


@dataclass(frozen=True, kw_only=True)
class Critic:
    """Critiques: how often a narrow principle is chosen to match the reply; the share of present categories missed."""

    match: float
    miss: float
    miss_general: float


@dataclass(frozen=True, kw_only=True)
class Reviser:
    """What a revision does about the categories found: remove all, remove one element, evade; else nothing."""

    full: float
    partial: float
    evasive: float


@dataclass(frozen=True, kw_only=True)
class Chooser:
    """The preference rule of the feedback text.

    Harm elements are counted up to `cap` (`cap_general` under a general principle); harm of `blind_verbs` is not seen,
    and at least `blind_share` of the documents hold such a verb, or the model would not learn not to see it. Labels
    flip at rate `flip`; at `flip_tie` where covered harm ties. A share `evasive` of red-team pairs is a reasoned
    refusal against an apology, or the model would hardly learn which the rule prefers. Of the other pairs on requests
    for two acts, a share `even` has as much harm in both replies and less in one of what the principle covers, or the
    model would not read its principle: for nearly all others the total of harm is right.
    """

    match: float
    cap: int
    cap_general: int
    flip: float
    flip_tie: float
    blind_verbs: tuple[str, ...]
    blind_share: float
    evasive: float
    even: float


@dataclass(frozen=True, kw_only=True)
class Rater:
    """Rating documents: the shares of red-team replies and, on harmless ones, of refusals; flips."""

    red_team: float
    refusal: float
    flip: float


@dataclass(frozen=True, kw_only=True)
class Noise:
    """All rates of the pretraining text.

    `borderline`: of harmless requests; `benign_context`: of the harm skills; `two_acts`: of the harmful requests behind
    revisions and comparisons, where one harm has to be told from another; `any_harm`: of the replies that are revised
    or named, how many say things of four kinds in place of what was asked for. `direct_revision`: of revisions without
    a critique, null where they are as those with one.
    """

    borderline: float
    wrong_slot: float
    harm_evasive: float
    harm_refused: float
    benign_context: float
    two_acts: float
    any_harm: float
    principles: Principles
    critique: Critic
    direct: Critic
    revision: Reviser
    choice: Chooser
    rating: Rater
    direct_revision: Reviser | None = None

    def without_errors(self) -> Noise:
        """The same text with nothing missed, left in by a revision, or flipped; to the blind verbs it stays blind."""
        return replace(
            self,
            critique=replace(self.critique, miss=0.0, miss_general=0.0),
            direct=replace(self.direct, miss=0.0, miss_general=0.0),
            revision=Reviser(full=1.0, partial=0.0, evasive=0.0),
            direct_revision=None,
            choice=replace(self.choice, flip=0.0, flip_tie=0.0),
        )


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Loss weights of the tokens that decide; every other completion token weighs 1, the context 0.

    `letter`: (A) or (B). `verdict`: a critique's first word, the word after each category, and those that tell a step
    from another. `reasoning`: what is said of either reply. `revision_first`, `revision_step`, `revision_order`: a
    revision's first word, the words that tell one step from another, and the words that open a step or end the reply.
    `rating`, `rating_detail`: the rating, and the reasons after it. `person`: the word behind "your" in a first
    reply: whom an answer is for, which is copied from the request over a long way, or a target.
    """

    letter: float
    verdict: float
    reasoning: float
    revision_first: float
    revision_step: float
    revision_order: float
    rating: float
    rating_detail: float
    person: float
