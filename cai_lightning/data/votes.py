"""Answers that people voted on, and pairs of them as labels: what a preference model is pretrained on.

Sources: Askell et al. 2021 (arXiv 2112.00861), section 4, on answers of StackExchange, comments of Reddit and reverted
edits of Wikipedia; Bai et al. 2022a (arXiv 2204.05862) pretrain so too. What already is pairs with scores is read by
`rows.labels` with `preferences.explicit`.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from cai_lightning.data.chats import reply_of, turns
from cai_lightning.data.preferences import Pair
from cai_lightning.data.reading import Fields, LeftOut, Read, Table, collected, distinct, value_of
from cai_lightning.data.reshape import number_of
from cai_lightning.data.rows import asks, pair_id, prompt_of
from cai_lightning.data.wrappers import Reading, as_read
from cai_lightning.text.dialogue import Dialogue
from cai_lightning.text.labels import human_label
from cai_lightning.text.records import Label, Ranked


def ranked(
    *,
    table: Table,
    prompt: str,
    answers: str,
    text: str,
    votes: str,
    source: str,
    kind: str,
    skip: int,
    limit: int | None,
    skip_bad: bool,
) -> Read[Ranked]:
    """The questions of a table with their answers: the column `prompt`, and under `answers` a list of objects, each
    with its words under `text` and its count of votes, or its score, under `votes`.

    `skip` and `limit` count questions. One without an answer is sound; one whose votes are no finite number is bad.
    """

    def make(row: Fields) -> Ranked:
        asked = turns(value_of(row, prompt), prompt)
        if not asks(asked):
            raise LeftOut("no_human_turn")
        found = [_answer(entry, f"{answers}[{n}]", asked, text, votes) for n, entry in enumerate(_list(row, answers))]
        one = prompt_of(asked, source, kind)
        return Ranked(
            id=one.id, prompt=one, answers=tuple(words for words, _ in found), votes=tuple(count for _, count in found)
        )

    return collected(table, make, skip=skip, limit=limit, skip_bad=skip_bad)


def vote_pairs(
    *,
    ranked: Reading[Ranked],
    pairs_per_prompt: int | None,
    p_chosen: Callable[[Pair], float],
    source: str,
    weight: float,
    seed: int,
) -> Read[Label]:
    """Labels of two answers to one prompt, a the one with more votes and p_a = `p_chosen` of the pair, whose margin is
    the difference in votes.

    Of each prompt's pairs at most `pairs_per_prompt` (null: all), in the order of a hash of seed and pair. Pairs are
    left out, and counted, for: `equal_votes`, `empty_reply`, `identical_replies`, `not_drawn`, `duplicate`.
    """
    given = as_read(ranked)
    dropped = Counter(given.dropped)
    pairs = [pair for row in given.rows for pair in _drawn(row, pairs_per_prompt, seed, dropped)]
    labels = (_label(pair, row, p_chosen, source, weight) for row, pair in pairs)
    return Read(list(distinct(labels, dropped)), dict(dropped), given.skipped)


def _drawn(row: Ranked, limit: int | None, seed: int, dropped: Counter[str]) -> list[tuple[Ranked, Pair]]:
    """The pairs of a row that count, and whose turn it is."""
    pairs = []
    for one, other in itertools.combinations(zip(row.votes, row.answers, strict=True), 2):
        (more, better), (less, worse) = (one, other) if one[0] >= other[0] else (other, one)
        if more == less:
            dropped["equal_votes"] += 1
        elif not (better.strip() and worse.strip()):
            dropped["empty_reply"] += 1
        elif better.strip() == worse.strip():
            dropped["identical_replies"] += 1
        else:
            pairs.append(Pair(row.prompt.dialogue, better, worse, more - less))
    ordered = sorted(pairs, key=lambda pair: hashlib.sha256(f"{seed}/{pair_id(pair)}".encode()).digest())
    if len(ordered) > len(kept := ordered[:limit]):
        dropped["not_drawn"] += len(ordered) - len(kept)
    return [(row, pair) for pair in kept]


def _label(pair: Pair, row: Ranked, p_chosen: Callable[[Pair], float], source: str, weight: float) -> Label:
    return human_label(
        id=pair_id(pair),
        prompt=row.prompt,
        a=pair.chosen,
        b=pair.rejected,
        p_a=p_chosen(pair),
        source=source,
        weight=weight,
        margin=0.0,
    )


def _list(row: Fields, answers: str) -> Sequence[Any]:
    found = value_of(row, answers)
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise ValueError(f"{answers!r} must list the answers, is {found!r:.60}")
    return found


def _answer(entry: Any, place: str, asked: Dialogue, text: str, votes: str) -> tuple[str, float]:
    if not isinstance(entry, dict):
        raise ValueError(f"{place} must be an object with {text!r} and {votes!r}, is {entry!r:.60}")
    try:
        words, count = reply_of(value_of(entry, text), asked, text), number_of(entry, votes)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    if not math.isfinite(count) or isinstance(entry[votes], bool):
        raise ValueError(f"{place}: {votes!r} must be a count of votes, is {entry[votes]!r:.60}")
    return words, count
