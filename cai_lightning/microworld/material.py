"""What documents are made of: requests, replies and principles, drawn at the rates of the text."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from cai_lightning.microworld import replies
from cai_lightning.microworld.noise import Critic, Noise, Reviser
from cai_lightning.microworld.principles import Aim, draw_aim
from cai_lightning.microworld.revisions import Draft, any_harm, draft_at_some_round, evenly_harmful, find, revise
from cai_lightning.microworld.words import CATEGORIES
from cai_lightning.microworld.world import Benign, Kind, RedTeam, draw_benign, draw_red_team


class Material:
    """Draws what documents are about, from one stream of random numbers that documents share."""

    def __init__(self, rng: random.Random, noise: Noise) -> None:
        self.rng = rng
        self.noise = noise
        self.blind_verbs = frozenset(noise.choice.blind_verbs)

    def chance(self, share: float) -> bool:
        """Whether something happens that happens in a share of the cases."""
        return self.rng.random() < share

    def harmless_request(self) -> Benign:
        """A benign request; a share is borderline."""
        kind: Kind = "borderline" if self.chance(self.noise.borderline) else "benign"
        return draw_benign(self.rng, kind=kind, part="train")

    def noisy_answer(self, request: Benign) -> str:
        """Its answer with a few wrong words."""
        wrong = [slot for slot in replies.FACT_SLOTS if self.chance(self.noise.wrong_slot)]
        return replies.answer(request, replies.wrong_words(self.rng, request, wrong))

    def attack(self, *, two: bool) -> RedTeam:
        """A red-team request for one act, or for two."""
        while True:
            request = draw_red_team(self.rng, part="train")
            if len(request.acts) == 1 + two:
                return request

    def draft(self, request: RedTeam) -> Draft:
        """A reply to a red-team request; a share says something harmful of any kind in its place."""
        if self.chance(self.noise.any_harm):
            return any_harm(self.rng)
        return draft_at_some_round(self.rng, request, self.noise.revision)

    def aim(self, match: float, present: Sequence[str]) -> Aim:
        """A principle; with chance `match` a narrow one names a category of those present, if any is."""
        among = present if present and self.chance(match) else CATEGORIES
        return draw_aim(self.rng, self.noise.principles, among)

    def revision(self, critic: Critic, shares: Reviser) -> tuple[Benign | RedTeam, Draft, Aim, list[str], Draft]:
        """Request, reply, principle, the categories found in the reply, and the revised reply."""
        if self.chance(self.noise.benign_context):
            harmless = self.harmless_request()
            draft = Draft((), self.noisy_answer(harmless))
            aim = draw_aim(self.rng, self.noise.principles, CATEGORIES)
            return harmless, draft, aim, [], draft
        request = self.attack(two=self.chance(self.noise.two_acts))
        draft = self.draft(request)
        aim = self.aim(critic.match, draft.categories)
        miss = critic.miss_general if aim.general else critic.miss
        found = find(self.rng, draft, aim, miss=miss)
        return request, draft, aim, found, revise(self.rng, request, draft, found, shares)

    def compared(self) -> tuple[Benign | RedTeam, Draft, Draft, Aim]:
        """Request, two replies, and the principle under which they are compared."""
        if self.chance(self.noise.benign_context):
            harmless = self.harmless_request()
            return harmless, *self._any_two(partial(self._harmless_draft, harmless))
        request = self._feedback_request()
        return request, *self._replies(request)

    def _replies(self, request: RedTeam) -> tuple[Draft, Draft, Aim]:
        """Two replies to a red-team request and a principle."""
        rule = self.noise.choice
        if self.chance(rule.evasive):
            refusals = (replies.refusal(self.rng, request), replies.EVASION)
            a, b = self.rng.sample([Draft((), text) for text in refusals], 2)
            return a, b, self.aim(rule.match, ())
        if len(request.acts) > 1 and self.chance(rule.even):
            return evenly_harmful(self.rng, request, partial(self.aim, 1.0))
        return self._any_two(partial(draft_at_some_round, self.rng, request, self.noise.revision))

    def _any_two(self, draw: Callable[[], Draft]) -> tuple[Draft, Draft, Aim]:
        a, b = draw(), draw()
        if a.text == b.text:
            b = draw()
        return a, b, self.aim(self.noise.choice.match, sorted({*a.categories, *b.categories}))

    def _feedback_request(self) -> RedTeam:
        """A red-team request; a share is certain to hold a verb that the rule is blind to, or it is not learned."""
        blind = self.chance(self.noise.choice.blind_share) and bool(self.blind_verbs)
        two = self.chance(self.noise.two_acts)
        while True:
            request = self.attack(two=two)
            if not blind or any(verb in self.blind_verbs for verb, _ in request.acts):
                return request

    def _harmless_draft(self, request: Benign) -> Draft:
        refuse = self.chance(0.5)
        return Draft((), replies.benign_refusal(self.rng, request) if refuse else self.noisy_answer(request))
