"""The critique-revision loop (Bai et al. 2022, section 3.1).

Few-shot examples + dialogue + "CritiqueRequest" -> critique -> "RevisionRequest" -> revision; the revision replaces
the reply in the clean dialogue, and the next round starts there, so critiques do not accumulate.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cai_lightning.constitution.principles import Constitution, Principle, draw
from cai_lightning.text.backends import Completion, Generator, Request, Sampling
from cai_lightning.text.dialogue import MARKERS, Dialogue, Message, reply_text, to_text
from cai_lightning.text.records import Response, Revision

CRITIQUE_STOP = ("\n\nRevisionRequest:", MARKERS["human"])
REVISION_STOP = (MARKERS["human"],)
_UNCHANGED = re.compile(
    r"\W*no (further )?(revisions?|changes?)( (is|are))?( (needed|necessary|required))?\W*", re.IGNORECASE
)


def critique_prompt(few_shots: Sequence[str], dialogue: Dialogue, reply: str, principle: Principle) -> str:
    """The text after which a critique of `reply` follows; it ends in "\\n\\nCritique:"."""
    answered = to_text((*dialogue, Message("assistant", reply)))
    return "".join(few_shots) + answered + f"\n\nCritiqueRequest: {principle.critique}\n\nCritique:"


def revision_prompt(critique_text: str, critique: str, principle: Principle) -> str:
    """A critique prompt continued by its critique, ending in "\\n\\nRevision:"."""
    written = reply_text(critique) if critique else ""
    return critique_text + written + f"\n\nRevisionRequest: {principle.revision}\n\nRevision:"


def direct_prompt(dialogue: Dialogue, reply: str, principle: Principle) -> str:
    """The text after which a revision follows at once; no few-shots, for those of the paper show critiques."""
    answered = to_text((*dialogue, Message("assistant", reply)))
    return answered + f"\n\nRevisionRequest: {principle.revision}\n\nRevision:"


def revise(
    generator: Generator,
    responses: Sequence[Response],
    constitution: Constitution,
    *,
    rounds: int,
    critique: bool,
    replacement: bool,
    seed: int,
    critique_sampling: Sampling,
    revision_sampling: Sampling,
    model: str,
) -> list[Revision]:
    """Every round of every response, the rounds of a response together; ids are "{response.id}.r{round}".

    One principle is drawn per row and round. `critique` False revises directly. A row's noise is keyed by
    (seed, "{id}/critique/{round}") and "/revision/"; the seeds of the samplings are not used, their stop strings
    are added to those of the format. A revision that is empty or only says that none is needed keeps the text.
    Temperature, token counts and finish are those of the call that wrote the revision.
    """
    if len({response.id for response in responses}) < len(responses):
        raise ValueError("responses: two rows share an id; ids key the noise and must be unique")
    for_critique = _with_stop(critique_sampling, seed, CRITIQUE_STOP)
    for_revision = _with_stop(revision_sampling, seed, REVISION_STOP)
    few_shots = constitution.critique_few_shots if critique else None
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
        done.append(_round(generator, turns, round, few_shots, for_critique, for_revision, model))
        texts = [revision.text for revision in done[-1]]
    return [revision for chain in zip(*done, strict=True) for revision in chain]


@dataclass(frozen=True)
class _Turn:
    """A response in one round: the text that it has now and the principle drawn for it."""

    response: Response
    text: str
    principle: Principle


def _round(
    generator: Generator,
    turns: Sequence[_Turn],
    round: int,
    few_shots: Sequence[str] | None,
    for_critique: Sampling,
    for_revision: Sampling,
    model: str,
) -> list[Revision]:
    """One round of all rows; without few-shots (null, not empty) the revision is direct."""
    critiques: list[str | None] = [None] * len(turns)
    if few_shots is None:
        asked = [direct_prompt(turn.response.prompt.dialogue, turn.text, turn.principle) for turn in turns]
    else:
        asked = [critique_prompt(few_shots, turn.response.prompt.dialogue, turn.text, turn.principle) for turn in turns]
        written = [done.text.strip() for done in _ask(generator, turns, asked, f"critique/{round}", for_critique)]
        asked = [
            revision_prompt(text, words, turn.principle)
            for text, words, turn in zip(asked, written, turns, strict=True)
        ]
        critiques = [*written]
    completions = _ask(generator, turns, asked, f"revision/{round}", for_revision)
    return [
        _revision(turn, round, words, completion, model, for_revision)
        for turn, words, completion in zip(turns, critiques, completions, strict=True)
    ]


def _with_stop(sampling: Sampling, seed: int, stop: tuple[str, ...]) -> Sampling:
    return replace(sampling, seed=seed, stop=tuple(dict.fromkeys((*stop, *sampling.stop))))


def _ask(
    generator: Generator, turns: Sequence[_Turn], texts: Sequence[str], step: str, sampling: Sampling
) -> list[Completion]:
    requests = [Request(f"{turn.response.id}/{step}", text) for turn, text in zip(turns, texts, strict=True)]
    return generator.generate(requests, sampling)


def _revision(
    turn: _Turn, round: int, critique: str | None, completion: Completion, model: str, sampling: Sampling
) -> Revision:
    text = completion.text.strip()
    return Revision(
        id=f"{turn.response.id}.r{round}",
        prompt=turn.response.prompt,
        round=round,
        previous=turn.text,
        critique=critique,
        text=turn.text if not text or _UNCHANGED.fullmatch(text) else text,
        principle=turn.principle.id,
        principle_hash=turn.principle.hash,
        model=model,
        temperature=sampling.temperature,
        seed=sampling.seed,
        prompt_tokens=completion.prompt_tokens,
        tokens=completion.tokens,
        finish=completion.finish,
    )
