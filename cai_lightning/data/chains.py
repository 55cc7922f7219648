"""A row's chain of revisions: one function a shape, row -> (dialogue, revisions). Raises ValueError with the cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from cai_lightning.constitution.principles import Principle
from cai_lightning.data.chats import turns
from cai_lightning.data.reading import Fields, text_of, value_of
from cai_lightning.text.dialogue import Dialogue


class Step(NamedTuple):
    """One revision: the text before, its critique (null: direct), the text after, and the principle."""

    previous: str
    critique: str | None
    text: str
    principle: Principle


Chain = Callable[[Fields], tuple[Dialogue, list[Step]]]


def revised(
    row: Fields, *, prompt: str, previous: str, critique: str | None, revision: str, requests: list[str]
) -> tuple[Dialogue, list[Step]]:
    """The one revision of a row with a column for each text; `requests` names those of the two requests, or is [].

    Hugging Face's CAI data sets are such: init_prompt, init_response, critic_prompt, ... The principle is the two
    requests, and its id their hash.
    """
    if len(requests) not in (0, 2):
        raise ValueError(
            f"requests names {len(requests)} columns; give those of critique and revision request, or none"
        )
    asked, again = (text_of(row, requests[0]), text_of(row, requests[1])) if requests else (None, None)
    principle = Principle("", asked, again, None)
    step = Step(
        previous=text_of(row, previous),
        critique=text_of(row, critique) if critique else None,
        text=text_of(row, revision),
        principle=replace(principle, id=principle.hash if requests else ""),
    )
    return turns(value_of(row, prompt), prompt), [step]
