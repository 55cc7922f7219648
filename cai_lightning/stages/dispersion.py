"""How far apart the replies to different prompts lie: whether a policy has one reply for everything."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cai_lightning.stages.diversity import distance
from cai_lightning.stages.estimates import Estimate
from cai_lightning.stages.texts import Text, answered, revised
from cai_lightning.text.artifacts import AnswerRows, AssessmentRows, RevisionRows
from cai_lightning.text.records import Assessment, write_rows


def run(
    out: Path, *, answers: dict[str, AnswerRows], revisions: dict[str, RevisionRows], neighbours: int
) -> AssessmentRows:
    """Assessment rows: of every reply `apart` and `copied`, both 0 to 1, among its player's to one kind of prompt.

    `apart`: the mean over the next `neighbours` replies to prompts of other clusters, in the order of the rows, of 1
    less the Jaccard index of the words; all of them where there are fewer, null where there is none. `copied`: whether
    the same words also answer a prompt of another cluster. Players are `name` or `name@sequences` for answers,
    `name@round` for revisions. Raises ValueError where `neighbours` is below 1.
    """
    if neighbours < 1:
        raise ValueError(f"neighbours: {neighbours} given, but at least 1 is wanted")
    groups: dict[tuple[str, str], list[Text]] = defaultdict(list)
    for reply in (*answered(answers), *revised(revisions, beginnings=False)):
        groups[reply.name, reply.prompt.kind].append(reply)
    write_rows(out, [row for group in groups.values() for row in _assessed(group, neighbours)])
    return out


def _assessed(group: Sequence[Text], neighbours: int) -> Iterator[Assessment]:
    plain = [" ".join(reply.text.lower().split()) for reply in group]
    clusters = Counter(text for _, text in {(r.prompt.cluster, text) for r, text in zip(group, plain, strict=True)})
    for place, reply in enumerate(group):
        # a window that wraps round: every reply is compared with as many, and as often
        around = [(place + step) % len(group) for step in range(1, len(group))]
        others = [other for other in around if group[other].prompt.cluster != reply.prompt.cluster][:neighbours]
        gaps = [distance(plain[place], plain[other]) for other in others]
        yield Assessment(
            prompt=reply.prompt.id,
            cluster=reply.prompt.cluster,
            kind=reply.prompt.kind,
            player=reply.name,
            sequences=reply.at,
            metrics={
                "apart": sum(gaps) / len(gaps) if gaps else None,
                "copied": float(clusters[plain[place]] > 1),
            },
        )


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """A row a reply; no model is asked."""
    return Estimate(sum(one.rows for name in ("answers", "revisions") for one in recipe[name].values()))
