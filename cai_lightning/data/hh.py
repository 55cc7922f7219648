"""The comparisons of hh-rlhf (Bai et al. 2022, 2204.05862): {"chosen", "rejected"}, whole dialogues as text.

Both sides share a prompt. A reply may itself contain a role marker, so the prompt ends at the last
"\\n\\nAssistant:" of the *common* beginning, not of each side, and such a reply stays one text. In some prompts a
role speaks twice in a row; those turns become one, joined by a blank line, since chat templates want roles to
alternate. Rows are left out, and counted, for: `duplicate`, `empty_reply`, `short_reply`, `identical_replies`,
`no_human_turn` (the prompt does not end with one that says something).
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cai_lightning.data.reading import Read, distinct, json_lines, text_field, window
from cai_lightning.text.artifacts import Source
from cai_lightning.text.dialogue import MARKERS, Dialogue, Message, from_text
from cai_lightning.text.records import Label, Prompt, fingerprint, prompt_id

NAME = "hh-rlhf"


def hh_comparisons(
    *, path: Source, kind: str, skip: int, limit: int | None, weight: float, min_reply_chars: int
) -> Read[Label]:
    """Human labels: a = chosen, b = rejected, p_a = 1, in file order.

    `skip` and `limit` count usable rows, so readers with the same `min_reply_chars` and adjacent ranges never
    overlap. Replies keep all their characters but the space after the marker. White space at the ends does not
    count towards `min_reply_chars`; empty replies go in any case. Raises ValueError with file:line and cause.
    """
    dropped: Counter[str] = Counter()
    labels = (
        Label(
            id=id,
            prompt=prompt,
            a=chosen,
            b=rejected,
            p_a=1.0,
            logit_ab=None,
            logit_ba=None,
            principle=None,
            principle_hash=None,
            model=None,
            source=NAME,
            weight=weight,
        )
        for id, prompt, chosen, rejected in _usable(path, kind, min_reply_chars, dropped)
    )
    return Read(window(distinct(labels, dropped), skip, limit), dict(dropped))


def hh_prompts(*, path: Source, kind: str, skip: int, limit: int | None) -> Read[Prompt]:
    """The distinct prompts in file order; `skip` and `limit` count them. Raises ValueError with file:line."""
    dropped: Counter[str] = Counter()
    prompts = (prompt for _, prompt, _, _ in _pairs(path, kind, dropped))
    return Read(window(distinct(prompts, dropped), skip, limit), dict(dropped))


def split(chosen: str, rejected: str) -> tuple[Dialogue, str, str]:
    """(prompt, chosen reply, rejected reply) of two dialogues that differ in their last reply only.

    The prompt's consecutive turns of one role are joined; replies lose the one space after the marker. Raises
    ValueError where the two share no "\\n\\nAssistant:" or do not start with a marker.
    """
    marker = MARKERS["assistant"]
    cut = os.path.commonprefix([chosen, rejected]).rfind(marker)  # noqa: RUF071 characters, not paths
    if cut < 0:
        raise ValueError(f"chosen and rejected share no {marker!r}; both must hold the same prompt")
    chosen_reply, rejected_reply = (text[cut + len(marker) :].removeprefix(" ") for text in (chosen, rejected))
    return joined(from_text(chosen[:cut])) if cut else (), chosen_reply, rejected_reply


def joined(dialogue: Dialogue) -> Dialogue:
    """The dialogue with each run of turns of one role as a single turn, blank lines between."""
    return tuple(
        Message(role, "\n\n".join(turn.content for turn in turns))
        for role, turns in itertools.groupby(dialogue, key=lambda turn: turn.role)
    )


def _pairs(path: Path, kind: str, dropped: Counter[str]) -> Iterator[tuple[str, Prompt, str, str]]:
    for place, row in json_lines(path):
        whole = [text_field(row, side, place) for side in ("chosen", "rejected")]
        try:
            dialogue, chosen, rejected = split(*whole)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        if not dialogue or dialogue[-1].role != "human" or not dialogue[-1].content.strip():
            dropped["no_human_turn"] += 1
            continue
        first = next(turn.content for turn in dialogue if turn.role == "human")
        prompt = Prompt(
            id=prompt_id(dialogue), dialogue=dialogue, source=NAME, kind=kind, cluster=fingerprint(first.strip())
        )
        yield fingerprint("\0".join(whole)), prompt, chosen, rejected


def _usable(
    path: Path, kind: str, min_reply_chars: int, dropped: Counter[str]
) -> Iterator[tuple[str, Prompt, str, str]]:
    for id, prompt, chosen, rejected in _pairs(path, kind, dropped):
        shortest = min(len(chosen.strip()), len(rejected.strip()))
        if shortest == 0:
            dropped["empty_reply"] += 1
        elif shortest < min_reply_chars:
            dropped["short_reply"] += 1
        elif chosen.strip() == rejected.strip():
            dropped["identical_replies"] += 1
        else:
            yield id, prompt, chosen, rejected
