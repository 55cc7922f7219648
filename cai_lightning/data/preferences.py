"""A row's two replies to one prompt: one function a shape, row -> pair; and how certain a label they make.

Both sides share the prompt, and a side is one reply. `margin` names where a margin stands: [] nowhere, one column that
holds it, or two columns of scores, that of the chosen reply first. Every function raises ValueError with the cause.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from cai_lightning.data.chats import Chat, column, exchange, joined, reply_of, turns
from cai_lightning.data.reading import Fields, as_text, value_of
from cai_lightning.data.reshape import number_of
from cai_lightning.text.dialogue import MARKERS, Dialogue, from_text


class Pair(NamedTuple):
    """Two replies to a dialogue, the preferred one first; `margin` is how much better it is, null if unknown."""

    dialogue: Dialogue
    chosen: str
    rejected: str
    margin: float | None


PairOf = Callable[[Fields], Pair]


def explicit(row: Fields, *, prompt: str, chosen: str, rejected: str, system: str | None, margin: list[str]) -> Pair:
    """The pair of a row with a prompt column: TRL's prompt, chosen, rejected; texts or message lists.

    A side that is a whole chat must repeat the prompt.
    """
    if chosen not in row and {"completion", "label"} <= set(row):
        raise ValueError(
            "one reply a row with a yes or no (KTO) is no pair; read the liked replies as responses,"
            " with chats.exchange on the table that reshape.equal leaves for label true, or all of them by rows.ratings"
        )
    chats = [partial(exchange, prompt=prompt, reply=side, system=system) for side in (chosen, rejected)]
    return of_chats(row, chosen=chats[0], rejected=chats[1], margin=margin)


def implicit(row: Fields, *, chosen: str, rejected: str, margin: list[str]) -> Pair:
    """The pair of a row whose sides are whole chats: message lists, or Human/Assistant texts parted as in `split`."""
    sides = [value_of(row, side) for side in (chosen, rejected)]
    if all(isinstance(side, str) for side in sides):
        return Pair(*split(*(as_text(side, "chosen and rejected") for side in sides)), _margin(row, margin))
    chats = [partial(column, column=side, system=None) for side in (chosen, rejected)]
    return of_chats(row, chosen=chats[0], rejected=chats[1], margin=margin)


def of_chats(row: Fields, *, chosen: Chat, rejected: Chat, margin: list[str]) -> Pair:
    """The pair of two dialogues, in any shape that `chats` reads, which differ in their last turn, an assistant's."""
    better, worse = chosen(row), rejected(row)
    for name, dialogue in (("chosen", better), ("rejected", worse)):
        if dialogue[-1].role != "assistant":
            raise ValueError(
                f"the {name} dialogue must end with an assistant turn, ends with a {dialogue[-1].role} turn"
            )
    if better[:-1] != worse[:-1]:
        raise ValueError(
            "the chosen and the rejected dialogue differ before their last turns; they must share the prompt"
        )
    return Pair(better[:-1], better[-1].content, worse[-1].content, _margin(row, margin))


def ranked(row: Fields, *, prompt: str, completions: str, rank: str, completion: str) -> Pair:
    """The best and the worst of several completions with ranks, 0 the best: NeMo-RL's context and completions."""
    asked = turns(value_of(row, prompt), prompt)
    found = value_of(row, completions)
    if not isinstance(found, Sequence) or isinstance(found, str) or len(found) < 2:
        raise ValueError(f"{completions!r} must list two completions or more, is {found!r:.60}")
    best, *_, worst = sorted(found, key=lambda entry: number_of(entry, rank))
    chosen, rejected = (reply_of(value_of(entry, completion), asked, completion) for entry in (best, worst))
    return Pair(asked, chosen, rejected, number_of(worst, rank) - number_of(best, rank))


def split(chosen: str, rejected: str) -> tuple[Dialogue, str, str]:
    """(prompt, chosen reply, rejected reply) of two Human/Assistant texts that differ in their last reply only.

    A reply may itself contain a marker, so the prompt ends at the last "\\n\\nAssistant:" of the *common* beginning.
    The prompt's consecutive turns of one role are joined; replies lose the one space after the marker. Raises
    ValueError where the two share no "\\n\\nAssistant:" or do not start with a marker.
    """
    marker = MARKERS["assistant"]
    cut = os.path.commonprefix([chosen, rejected]).rfind(marker)  # noqa: RUF071 characters, not paths
    if cut < 0:
        raise ValueError(f"chosen and rejected share no {marker!r}; both must hold the same prompt")
    chosen_reply, rejected_reply = (text[cut + len(marker) :].removeprefix(" ") for text in (chosen, rejected))
    return joined(from_text(chosen[:cut])) if cut else (), chosen_reply, rejected_reply


def certain(pair: Pair) -> float:
    """1, whatever the margin: P(chosen is better) as a person's choice is usually taken."""
    del pair
    return 1.0


def coin(pair: Pair, *, seed: int) -> float:
    """1 or 0 by the toss of a coin: a label that says nothing of its pair, the same whenever it is read."""
    texts = [turn.content for turn in pair.dialogue] + [pair.chosen, pair.rejected]
    return float(hashlib.sha256("\0".join([str(seed), *texts]).encode()).digest()[0] & 1)


def by_margin(pair: Pair, *, scale: float) -> float:
    """P(chosen is better) = sigmoid(scale * margin), as Bradley-Terry has it. Raises ValueError without a margin."""
    if pair.margin is None:
        raise ValueError("the pair has no margin; name its columns under margin")
    return (1 + math.tanh(scale * pair.margin / 2)) / 2  # exp would overflow


def asked_margin(pair: Pair, *, scale: float) -> float:
    """scale * margin in nats: by how much the likelier reply is to be better. TRL's column `margin` has the scale 1.

    With `by_margin` beside it the margin would count twice. Raises ValueError without a margin, and on one below 0.
    """
    if pair.margin is None:
        raise ValueError("the pair has no margin; name its columns under margin")
    if not pair.margin >= 0:
        raise ValueError(f"the margin must not be below 0, is {pair.margin}; the chosen reply is the better one")
    return scale * pair.margin


def _margin(row: Fields, columns: list[str]) -> float | None:
    numbers = [number_of(row, name) for name in columns]
    if len(numbers) > 2:
        raise ValueError(
            f"margin names {len(columns)} columns; give none, a margin, or the scores of chosen and rejected"
        )
    return numbers[0] - sum(numbers[1:]) if numbers else None
