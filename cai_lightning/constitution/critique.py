"""The critique-revision loop (Bai et al. 2022, section 3.1).

Few-shot examples + dialogue + "CritiqueRequest" -> critique -> "RevisionRequest" -> revision; the revision replaces
the reply in the clean dialogue, and the next round starts there, so critiques do not accumulate. A style says how all
this is put to the model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cai_lightning.constitution.cleaning import Cleaning, Rule, cleaned
from cai_lightning.constitution.principles import Constitution, Principle, draw
from cai_lightning.constitution.styles import Steps, Style, marked, said, solved
from cai_lightning.text.backends import Completion, Generator, Request, Sampling
from cai_lightning.text.dialogue import MARKERS, Dialogue, Message
from cai_lightning.text.records import Response, Revision

CRITIQUE_STOP = ("\n\nRevisionRequest:", MARKERS["human"])
REVISION_STOP = (MARKERS["human"],)
KEPT = "kept"
_UNCHANGED = re.compile(
    r"\W*no (further )?(revisions?|changes?)( (is|are))?( (needed|necessary|required))?\W*", re.IGNORECASE
)


def critique_steps(dialogue: Dialogue, reply: str, principle: Principle) -> Steps:
    """The dialogue with its reply and the critique request, up to where a critique is due."""
    request = marked("human", "\n\nCritiqueRequest:", principle.critique or "")
    return *said((*dialogue, Message("assistant", reply))), request, marked("assistant", "\n\nCritique:", "")


def revision_steps(asked: Steps, critique: str, principle: Principle) -> Steps:
    """Critique steps with their critique and the revision request, up to where a revision is due."""
    return *asked[:-1], marked("assistant", "\n\nCritique:", critique), *_revise_it(principle)


def direct_steps(dialogue: Dialogue, reply: str, principle: Principle) -> Steps:
    """The dialogue with its reply and the revision request at once."""
    return *said((*dialogue, Message("assistant", reply))), *_revise_it(principle)


def _revise_it(principle: Principle) -> Steps:
    request = marked("human", "\n\nRevisionRequest:", principle.revision or "")
    return request, marked("assistant", "\n\nRevision:", "")


def revise(
    generator: Generator,
    responses: Sequence[Response],
    constitution: Constitution,
    *,
    style: Style,
    cleaning: Cleaning,
    rounds: int,
    critique: bool,
    replacement: bool,
    seed: int,
    critique_sampling: Sampling,
    revision_sampling: Sampling,
    model: str,
) -> list[Revision]:
    """Every round of every response, the rounds of a response together; ids are "{response.id}.r{round}".

    One principle is drawn per row and round. `critique` False revises directly, without few-shots, for those of the
    paper show critiques. A row's noise is keyed by (seed, "{id}/critique/{round}") and "/revision/"; the seeds of the
    samplings are not used, their stop strings are added to those of the format. A revision that is empty or only says
    that none is needed keeps the text. What goes on, into the prompt and the next round, is cleaned.
    Temperature, token counts and finish are those of the call that wrote the revision.
    """
    if len({response.id for response in responses}) < len(responses):
        raise ValueError("responses: two rows share an id; ids key the noise and must be unique")
    reviser = _Reviser(
        generator,
        style,
        cleaning,
        tuple(map(solved, constitution.critique_few_shots)) if critique else None,
        _with_stop(critique_sampling, seed, CRITIQUE_STOP),
        _with_stop(revision_sampling, seed, REVISION_STOP),
        model,
    )
    texts = [response.text for response in responses]
    done: list[list[Revision]] = []
    for round in range(1, rounds + 1):
        turns = [
            _Turn(
                response,
                text,
                draw(constitution.revising, seed=seed, row=response.id, round=round, replacement=replacement),
            )
            for response, text in zip(responses, texts, strict=True)
        ]
        done.append(reviser.round(turns, round))
        texts = [revision.text for revision in done[-1]]
    return [revision for chain in zip(*done, strict=True) for revision in chain]


@dataclass(frozen=True)
class _Turn:
    """A response in one round: the text that it has now and the principle drawn for it."""

    response: Response
    text: str
    principle: Principle


@dataclass(frozen=True)
class _Written:
    """What the model wrote, what is left of it, and the names of the rules that took something off."""

    raw: str
    text: str
    fired: tuple[str, ...]

    @property
    def kept(self) -> str | None:
        """What the model wrote, where something was taken off."""
        return self.raw if self.fired else None


@dataclass(frozen=True)
class _Reviser:
    """How a round is made; without examples (null, not empty) revisions are direct."""

    generator: Generator
    style: Style
    cleaning: Cleaning
    examples: Sequence[Steps] | None
    for_critique: Sampling
    for_revision: Sampling
    model: str

    def round(self, turns: Sequence[_Turn], round: int) -> list[Revision]:
        """One round of all rows."""
        critiques: list[_Written | None] = [None] * len(turns)
        if self.examples is None:
            asked = [direct_steps(turn.response.prompt.dialogue, turn.text, turn.principle) for turn in turns]
        else:
            first = [critique_steps(turn.response.prompt.dialogue, turn.text, turn.principle) for turn in turns]
            written = [
                _written(done, self.cleaning.critique)
                for done in self._ask(turns, first, f"critique/{round}", self.for_critique)
            ]
            asked = [
                revision_steps(steps, said.text, turn.principle)
                for steps, said, turn in zip(first, written, turns, strict=True)
            ]
            critiques = [*written]
        completions = self._ask(turns, asked, f"revision/{round}", self.for_revision)
        return [
            self._revision(turn, round, critique, completion)
            for turn, critique, completion in zip(turns, critiques, completions, strict=True)
        ]

    def _ask(self, turns: Sequence[_Turn], asked: Sequence[Steps], step: str, sampling: Sampling) -> list[Completion]:
        requests = [
            Request(f"{turn.response.id}/{step}", self.style(self.examples or (), steps))
            for turn, steps in zip(turns, asked, strict=True)
        ]
        return self.generator.generate(requests, sampling)

    def _revision(self, turn: _Turn, round: int, critique: _Written | None, completion: Completion) -> Revision:
        revised = _written(completion, self.cleaning.revision)
        if not revised.text or _UNCHANGED.fullmatch(revised.text):
            revised = _Written(revised.raw, turn.text, (*revised.fired, KEPT))
        fired = [f"critique/{name}" for name in critique.fired] if critique else []
        return Revision(
            id=f"{turn.response.id}.r{round}",
            prompt=turn.response.prompt,
            round=round,
            previous=turn.text,
            critique=critique.text if critique else None,
            text=revised.text,
            principle=turn.principle.id,
            principle_hash=turn.principle.hash,
            model=self.model,
            temperature=self.for_revision.temperature,
            seed=self.for_revision.seed,
            prompt_tokens=completion.prompt_tokens,
            tokens=completion.tokens,
            finish=completion.finish,
            raw=revised.kept,
            critique_raw=critique.kept if critique else None,
            cleaned=(*fired, *(f"revision/{name}" for name in revised.fired)),
        )


def _written(done: Completion, rules: Sequence[Rule]) -> _Written:
    raw = done.text.strip()
    return _Written(raw, *cleaned(raw, rules))


def _with_stop(sampling: Sampling, seed: int, stop: tuple[str, ...]) -> Sampling:
    return replace(sampling, seed=seed, stop=tuple(dict.fromkeys((*stop, *sampling.stop))))
