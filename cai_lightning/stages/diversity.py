"""How different the replies are that several revision chains make of one reply, round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import AssessmentRows, RevisionRows
from cai_lightning.text.records import Assessment, Prompt, Revision, read_rows, write_rows


def run(out: Path, *, player: str, revisions: dict[str, RevisionRows], gram: int) -> AssessmentRows:
    """Assessment rows of `player@round`: `distance` and `distinct` among the chains of each prompt, both 0 to 1.

    The chains (at least two, of the same prompts) differ in their seed alone. `distance`: the mean over pairs of 1 less
    the Jaccard index of their words; `distinct`: different n-grams of `gram` words over all n-grams of the texts.
    Raises ValueError where a prompt or round is missing in one of them.
    """
    if len(revisions) < 2:
        raise ValueError(f"revisions: {len(revisions)} given, but two or more chains a prompt are wanted")
    texts: dict[tuple[str, int], list[str]] = {}
    prompts: dict[str, Prompt] = {}
    for folder in revisions.values():
        for row in read_rows(folder, Revision):
            prompts[row.prompt.id] = row.prompt
            texts.setdefault((row.prompt.id, row.round), []).append(row.text)
    rows = []
    for (prompt, number), group in texts.items():
        if len(group) != len(revisions):
            raise ValueError(f"prompt {prompt}, round {number}: {len(group)} of {len(revisions)} chains have it")
        rows.append(_assessed(player, prompts[prompt], number, group, gram))
    write_rows(out, rows)
    return out


def _assessed(player: str, prompt: Prompt, number: int, texts: Sequence[str], gram: int) -> Assessment:
    from cai_lightning.evaluation.surface import distinct_ratio

    pairs = [distance(a, b) for a, b in combinations(texts, 2)]
    return Assessment(
        prompt=prompt.id,
        cluster=prompt.cluster,
        kind=prompt.kind,
        player=f"{player}@{number}",
        sequences=number,
        metrics={"distance": sum(pairs) / len(pairs), "distinct": distinct_ratio(texts, n=gram, token=r"[\w']+")},
    )


def distance(a: str, b: str) -> float:
    """1 less the Jaccard index of two texts' sets of words, 0 for two texts without words."""
    ours, theirs = set(a.lower().split()), set(b.lower().split())
    return 1 - len(ours & theirs) / len(ours | theirs) if ours | theirs else 0.0


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """No model is asked."""
    rows = min((given.rows for given in recipe["revisions"].values()), default=None)
    return Estimate(rows)
