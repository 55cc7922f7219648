"""The comparisons of hh-rlhf (Bai et al. 2022, 2204.05862): {"chosen", "rejected"}, whole dialogues as text.

The subsets (harmless-base, helpful-base, helpful-online, helpful-rejection-sampled) are alike. A prompt that does not
end with a human turn that says something is counted as `no_human_turn`; what else is left out, `rows` says. The
red-team attempts of the same release are transcripts: `rows.prompts` reads them.
"""

from __future__ import annotations

from cai_lightning.data.preferences import Pair, certain, split
from cai_lightning.data.reading import Fields, LeftOut, Read, text_of
from cai_lightning.data.rows import labels, prompts
from cai_lightning.data.tables import file_table
from cai_lightning.text.artifacts import Source
from cai_lightning.text.dialogue import Dialogue
from cai_lightning.text.records import Label, Prompt

NAME = "hh-rlhf"


def hh_comparisons(
    *, path: Source, kind: str, skip: int, limit: int | None, weight: float, min_reply_chars: int
) -> Read[Label]:
    """Human labels of one file: a = chosen, b = rejected, p_a = 1, in file order.

    `skip` and `limit` count usable rows, so readers with the same `min_reply_chars` and adjacent ranges never
    overlap. Replies keep all their characters but the space after the marker. White space at the ends does not
    count towards `min_reply_chars`; empty replies go in any case. Raises ValueError with file:line and cause.
    """
    return labels(
        table=file_table(path=path, pattern=None),
        pair=hh_pair,
        p_chosen=certain,
        source=NAME,
        kind=kind,
        weight=weight,
        min_reply_chars=min_reply_chars,
        skip=skip,
        limit=limit,
        skip_bad=False,
    )


def hh_prompts(*, path: Source, kind: str, skip: int, limit: int | None) -> Read[Prompt]:
    """The distinct prompts in file order; `skip` and `limit` count them. Raises ValueError with file:line."""
    table = file_table(path=path, pattern=None)
    return prompts(
        table=table, chat=hh_dialogue, cut=False, source=NAME, kind=kind, skip=skip, limit=limit, skip_bad=False
    )


def hh_pair(row: Fields) -> Pair:
    """The pair of a row; neither side is cut at a marker that only one of them holds."""
    return Pair(*split(text_of(row, "chosen"), text_of(row, "rejected")), None)


def hh_dialogue(row: Fields) -> Dialogue:
    """The prompt of a row. Raises LeftOut where it does not end with a human turn that says something."""
    dialogue = hh_pair(row).dialogue
    if not dialogue or dialogue[-1].role != "human" or not dialogue[-1].content.strip():
        raise LeftOut("no_human_turn")
    return dialogue
