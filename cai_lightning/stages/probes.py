"""Probes of a judge: questions whose right answer is known, made of two players' answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai_lightning.stages.estimates import REQUEST_TOKENS, Estimate, scored
from cai_lightning.text.artifacts import AnswerRows, Table
from cai_lightning.text.records import Answer, read_rows

if TYPE_CHECKING:
    from cai_lightning.evaluation.judges import Judge
    from cai_lightning.evaluation.probes import Ask, Pair, Probed

FIXED = 6  # questions of a pair beside the injections: null, copy, padded, and three about the other reply


def run(
    out: Path,
    *,
    answers: AnswerRows,
    opponent: AnswerRows,
    judge: Judge,
    limit: int,
    null_reply: str,
    padding: str,
    injections: dict[str, str],
    chunk: int,
) -> Table:
    """`probes.json`: criterion -> probe -> share with its interval, and whether the judge fails it; rows behind it.

    Asked are the first `limit` prompts of each kind. `null_reply` answers all of them, `padding` and `injections` are
    added to a copy. Raises ValueError where the players did not answer the same prompts, or the judge compares none.
    """
    from cai_lightning.evaluation.judges import AskedInOrder
    from cai_lightning.evaluation.probes import PAIR, Probed, asks, probed
    from cai_lightning.stages.session import progress
    from cai_lightning.text.chunks import in_chunks

    pairs = _pairs(answers, opponent, limit)
    questions = asks(pairs, judge.criteria_for, null_reply=null_reply, padding=padding, injections=injections)
    if not questions:
        raise ValueError(f"{answers}: no prompt of a kind that the judge compares; nothing to probe it with")

    def work(part: Sequence[Ask]) -> Iterator[Probed]:
        scores = judge.compare_all([one.match for one in part])
        told = [one.match for one in part if one.probe == PAIR]
        orders = iter(judge.by_order(told) if told and isinstance(judge, AskedInOrder) else [()] * len(told))
        for one, score in zip(part, scores, strict=True):
            yield Probed(
                prompt=one.prompt.id,
                cluster=one.prompt.cluster,
                kind=one.prompt.kind,
                criterion=one.criterion,
                probe=one.probe,
                score=score,
                logits=next(orders) if one.probe == PAIR else (),
            )

    with progress(len(questions), "probes") as advance:
        in_chunks(out, questions, size=chunk, work=work, advance=advance)
    table = probed(read_rows(out, Probed))
    (out / "probes.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return out


def _pairs(answers: Path, opponent: Path, limit: int) -> list[Pair]:
    """The final answers of both players to the first prompts of each kind."""
    from cai_lightning.evaluation.probes import Pair

    other = {row.prompt.id: row.text for row in read_rows(opponent, Answer) if row.sequences is None}
    pairs: list[Pair] = []
    seen: Counter[str] = Counter()
    for row in read_rows(answers, Answer):
        if row.sequences is not None or seen[row.prompt.kind] == limit:
            continue
        seen[row.prompt.kind] += 1
        if row.prompt.id not in other:
            raise ValueError(f"{opponent}: no answer to prompt {row.prompt.id}; players must answer the same prompts")
        pairs.append(Pair(row.prompt, row.text, other[row.prompt.id]))
    return pairs


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """A question a probe and prompt, both orders of each, and once more the orders of the pairs."""
    prompts = min(recipe["answers"].prompts, 3 * recipe["limit"])  # three kinds, more or less
    rows = prompts * (FIXED + len(recipe["injections"]))
    scorer, length = recipe["judge"].get("scorer"), 2 * recipe["answers"].length + REQUEST_TOKENS
    calls = 2 * (rows + prompts) if scorer else 0
    memory = scored(scorer, scorer["path"], rows=calls, length=length) if scorer else 0
    return Estimate(None, calls, calls * length, memory=memory)
