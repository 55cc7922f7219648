"""The skills of the pretraining text, one document at a time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from cai_lightning.microworld import deciding, replies
from cai_lightning.microworld.document import (
    ANSWER_MARK,
    CONSIDER,
    CRITIQUE_REQUEST,
    LETTERS,
    PROOF_MARK,
    RATING_MARK,
    REVISION_MARK,
    REVISION_REQUEST,
    THOUGHTS_MARK,
    Document,
    Span,
    weigh,
)
from cai_lightning.microworld.material import Material
from cai_lightning.microworld.noise import Noise, Weights
from cai_lightning.microworld.preferences import prefers_a, reasoning, unseen
from cai_lightning.microworld.principles import COMPARISON, CRITIQUE, OR, REVISION, Aim
from cai_lightning.microworld.ratings import (
    RIGHT,
    WRONG,
    proofread,
    proofread_draft,
    rate_answer,
    rate_draft,
    rated_text,
)
from cai_lightning.microworld.revisions import Draft, any_harm, critique, draft_at_some_round
from cai_lightning.microworld.words import CATEGORIES
from cai_lightning.microworld.world import Benign, RedTeam, draw_red_team, say
from cai_lightning.text.dialogue import human, prompt_text, reply_text, to_text


class Writer:
    """Writes documents: `skills` has one method a kind."""

    def __init__(self, rng: random.Random, noise: Noise, weights: Weights) -> None:
        self.rng = rng
        self.noise = noise
        self.weights = weights
        self.draw = Material(rng, noise)
        self.blind_words = unseen(noise.choice.blind_verbs)
        self.skills: dict[str, Callable[[], Document]] = {
            "benign": self.benign,
            "harm": self.harm,
            "critique": self.critique,
            "direct": self.direct,
            "choice": self.choice,
            "reasoning": self.reasoning,
            "rating": self.rating,
            "proof": self.proof,
            "named": self.named,
            "marked": self.marked,
            "counted": self.counted,
            "sought": self.sought,
        }

    def benign(self) -> Document:
        """A harmless request and its answer, with a few wrong words."""
        request = self.draw.harmless_request()
        return self._reply_document("benign", request, self.draw.noisy_answer(request))

    def harm(self) -> Document:
        """A red-team request and compliance with it, seldom a refusal."""
        request = draw_red_team(self.rng, part="train")
        fate = self.rng.random()
        if fate < self.noise.harm_evasive:
            reply = replies.EVASION
        elif fate < self.noise.harm_evasive + self.noise.harm_refused:
            reply = replies.refusal(self.rng, request)
        else:
            reply = replies.compliance(replies.harm_steps(request))
        return self._reply_document("harm", request, reply)

    def critique(self) -> Document:
        """A reply, a critique of it under a principle, and the revision that follows from the critique."""
        request, draft, aim, found, revised = self.draw.revision(self.noise.critique, self.noise.revision)
        asked = self._said(request, draft.text) + CRITIQUE_REQUEST.format(principle=CRITIQUE.format(aim=aim.text))
        spans = [
            Span(asked, 0.0),
            *weigh(reply_text(critique(draft, aim, found)), partial(deciding.in_critique, self.weights)),
            Span(REVISION_MARK, 1.0),
            Span(_revision_request(aim), 0.0),
            *weigh(reply_text(revised.text), partial(deciding.in_revision, self.weights)),
        ]
        return Document("critique", tuple(spans), self.weights.revision_order)

    def direct(self) -> Document:
        """A reply and its revision under a principle, without a critique."""
        request, draft, aim, _, revised = self.draw.revision(
            self.noise.direct, self.noise.direct_revision or self.noise.revision
        )
        asked = self._said(request, draft.text) + REVISION_MARK + _revision_request(aim)
        spans = [Span(asked, 0.0), *weigh(reply_text(revised.text), partial(deciding.in_revision, self.weights))]
        return Document("direct", tuple(spans), self.weights.revision_order)

    def choice(self) -> Document:
        """Two replies, a principle, and the letter of the one that the feedback rule prefers."""
        asked, aim, a, b = self._pair()
        first = prefers_a(self.rng, a, b, aim, self.noise.choice, self.blind_words)
        spans = (Span(asked + ANSWER_MARK, 0.0), Span(LETTERS[not first], self.weights.letter))
        return Document("choice", spans, 1.0)

    def reasoning(self) -> Document:
        """Two replies, a principle, what is said of either reply, and the letter that follows from it."""
        asked, aim, a, b = self._pair()
        said_a, said_b, first = reasoning(self.rng, a, b, aim)
        spans = (
            Span(asked + THOUGHTS_MARK, 0.0),
            Span(" (A)", 1.0),
            Span(f" {said_a}", self.weights.reasoning),
            Span(" , (B)", 1.0),
            Span(f" {said_b}", self.weights.reasoning),
            Span(" ." + ANSWER_MARK, 1.0),
            Span(LETTERS[not first], self.weights.letter),
        )
        return Document("reasoning", spans, 1.0)

    def rating(self) -> Document:
        """A reply of any quality and its rating: how many slots are right, or how harmful it is."""
        rates = self.noise.rating
        if self.draw.chance(rates.red_team):
            attack = draw_red_team(self.rng, part="train")
            draft = draft_at_some_round(self.rng, attack, self.noise.revision)
            said, rating = self._said(attack, draft.text), rate_draft(draft)
        else:
            request = self.draw.harmless_request()
            reply, rating = rate_answer(self.rng, request, refuse=self.draw.chance(rates.refusal))
            said = self._said(request, reply)
        summary, detail = rated_text(self.rng, rating, flip=rates.flip)
        spans = [Span(said + RATING_MARK, 0.0), Span(summary, self.weights.rating)]
        if detail:
            spans.append(Span(detail, self.weights.rating_detail))
        return Document("rating", tuple(spans), self.weights.rating_detail)

    def proof(self) -> Document:
        """An answer and a verdict behind every fact; only these are learned."""
        request = self.draw.harmless_request()
        return self._proven("proof", request, proofread(self.rng, request))

    def named(self) -> Document:
        """A reply with harm and behind every word of it its category; only these are learned."""
        request = draw_red_team(self.rng, part="train")
        proof = proofread_draft(self.draw.draft(request), {category: category for category in CATEGORIES})
        return self._proven("named", request, proof)

    def _proven(self, kind: str, request: Benign | RedTeam, proof: Sequence[tuple[str, str]]) -> Document:
        asked = to_text(human(say(self.rng, request))) + PROOF_MARK
        return Document(kind, (Span(asked, 0.0), *self._verdicts(proof)), 1.0)

    def marked(self) -> Document:
        """Two replies with any harm, and behind every word of it whether the principle is against it."""
        drafts = [any_harm(self.rng), any_harm(self.rng)]
        aim = self.draw.aim(1.0, [category for draft in drafts for category in draft.categories])
        asked = self._consider(draw_red_team(self.rng, part="train"), aim, "", "")
        against = {category: WRONG if category in aim.covers else RIGHT for category in CATEGORIES}
        return self._judged("marked", asked, [proofread_draft(draft, against) for draft in drafts])

    def counted(self) -> Document:
        """Two replies, and behind either how many of its harm elements the principle is against."""
        asked, aim, *drafts = self._pair()
        counts = [sum(step.category in aim.covers for step in draft.steps) for draft in drafts]
        return self._judged("counted", asked, [[(d.text, str(n))] for d, n in zip(drafts, counts, strict=True)])

    def sought(self) -> Document:
        """A request to revise, and behind every category it names whether the reply has it; only these are learned."""
        request = self.draw.attack(two=self.draw.chance(self.noise.two_acts))
        draft = self.draw.draft(request)
        aim = self.draw.aim(self.noise.direct.match, draft.categories)
        asked = _revision_request(aim).partition(f" {aim.text}")[0]
        spans = [Span(self._said(request, draft.text) + REVISION_MARK + asked, 0.0)]
        for word in aim.text.split():
            spans.append(Span(f" {word}", 0.0))
            if word != OR:
                there = draft.categories if aim.general else word in draft.categories
                spans.append(Span(f" {WRONG if there else RIGHT}", self.weights.rating))
        return Document("sought", tuple(spans), 1.0)

    def _judged(self, kind: str, asked: str, proofs: Sequence[Sequence[tuple[str, str]]]) -> Document:
        spans = [Span(asked.partition("\n(A)")[0], 0.0)]
        for letter, proof in zip(LETTERS, proofs, strict=True):
            spans += [Span(f"\n{letter.strip()}", 0.0), *self._verdicts(proof)]
        return Document(kind, tuple(spans), 1.0)

    def _verdicts(self, proof: Sequence[tuple[str, str]]) -> Iterator[Span]:
        for text, verdict in proof:
            if text.strip():
                yield Span(f" {text.strip()}", 0.0)
            if verdict:
                yield Span(f" {verdict}", self.weights.rating)

    def _pair(self) -> tuple[str, Aim, Draft, Draft]:
        """The comparison up to the replies, its principle, and both replies."""
        request, a, b, aim = self.draw.compared()
        return self._consider(request, aim, a.text, b.text), aim, a, b

    def _consider(self, request: Benign | RedTeam, aim: Aim, a: str, b: str) -> str:
        conversation, principle = to_text(human(say(self.rng, request))), COMPARISON.format(aim=aim.text)
        return CONSIDER.format(conversation=conversation, principle=principle, a=a, b=b)

    def _reply_document(self, kind: str, request: Benign | RedTeam, reply: str) -> Document:
        return Document(
            kind,
            (Span(self._asked(request), 0.0), *weigh(reply_text(reply), partial(deciding.in_reply, self.weights))),
            1.0,
        )

    def _asked(self, request: Benign | RedTeam) -> str:
        return prompt_text(human(say(self.rng, request)))

    def _said(self, request: Benign | RedTeam, reply: str) -> str:
        return self._asked(request) + reply_text(reply)


def _revision_request(aim: Aim) -> str:
    return REVISION_REQUEST.format(principle=REVISION.format(aim=aim.text))
