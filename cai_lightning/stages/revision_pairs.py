"""Revisions against the replies they came from: labels in which the revision is better, or comparisons to be labelled.

The shortcut of open recipes; the pairs of Bai et al. 2022 are two samples of SL-CAI (`stages/pairs.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai_lightning.stages.estimates import Estimate
from cai_lightning.text.artifacts import ComparisonRows, LabelRows, RevisionRows
from cai_lightning.text.records import Comparison, Label, Revision, read_rows, write_rows

if TYPE_CHECKING:
    from cai_lightning.stages.sft import Choose

SOURCE = "revision"


def run(out: Path, *, revisions: RevisionRows, choose: Choose, p_a: float, weight: float) -> LabelRows:
    """Label rows: the chosen revisions of each chain as a, with probability `p_a` better than the first reply, b.

    `principle` is that of the revision. Revisions equal to the first reply are left out and counted in `counts.json`.
    """
    from cai_lightning.stages.reading import write_counts

    if not 0 <= p_a <= 1:
        raise ValueError(f"p_a: is {p_a}; it must be a probability")
    rows = [
        Label(
            id=revision.id,
            prompt=revision.prompt,
            a=revision.text,
            b=original,
            p_a=p_a,
            logit_ab=None,
            logit_ba=None,
            principle=revision.principle,
            principle_hash=revision.principle_hash,
            model=revision.model,
            source=SOURCE,
            weight=weight,
        )
        for revision, original in _pairs(revisions, choose)
    ]
    kept = [row for row in rows if row.a != row.b]
    write_rows(out, kept)
    write_counts(out, {"rows": len(kept), "dropped": {"unchanged": len(rows) - len(kept)}})
    return out


def comparisons(out: Path, *, revisions: RevisionRows, choose: Choose) -> ComparisonRows:
    """Comparison rows of the same pairs, a the revision, b the first reply; a feedback model says which is better."""
    from cai_lightning.stages.reading import write_counts

    rows = [
        Comparison(
            id=revision.id,
            prompt=revision.prompt,
            a=revision.text,
            b=original,
            source=SOURCE,
            model=revision.model,
            temperature=revision.temperature,
            seed=revision.seed,
        )
        for revision, original in _pairs(revisions, choose)
    ]
    kept = [row for row in rows if row.a != row.b]
    write_rows(out, kept)
    write_counts(out, {"rows": len(kept), "dropped": {"unchanged": len(rows) - len(kept)}})
    return out


def _pairs(revisions: Path, choose: Choose) -> Iterator[tuple[Revision, str]]:
    """The chosen revisions of every chain, each with the reply that the chain began with."""
    chains: dict[str, list[Revision]] = {}
    for revision in read_rows(revisions, Revision):
        chains.setdefault(revision.id.removesuffix(f".r{revision.round}"), []).append(revision)
    for chain in chains.values():
        first = min(chain, key=lambda revision: revision.round)
        yield from ((revision, first.previous) for revision in choose(chain))


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """At most every revision that is chosen; no model is asked."""
    given, choose = recipe["revisions"], recipe["choose"]
    every = choose["_target_"].endswith(".every")
    rows = given.rows if every else min(given.rows, given.prompts * choose.get("rounds", 1))
    return Estimate(rows, length=2 * given.length, prompts=given.prompts)
