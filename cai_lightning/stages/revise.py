"""Revision chains: every response through all rounds of critique and revision, or of direct revision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from cai_lightning.constitution.cleaning import Cleaning
from cai_lightning.constitution.principles import Constitution, Principle
from cai_lightning.constitution.styles import Steps, Style
from cai_lightning.stages.estimates import Estimate, request, sampled, shown
from cai_lightning.text.artifacts import CausalLM, ResponseRows, RevisionRows
from cai_lightning.text.backends import Prompt
from cai_lightning.text.records import Response, Revision, read_rows


def run(
    out: Path,
    *,
    reviser: CausalLM,
    responses: ResponseRows,
    constitution: Constitution,
    style: Style,
    cleaning: Cleaning,
    rounds: int,
    critique: bool,
    replacement: bool,
    temperature: float,
    critique_tokens: int,
    revision_tokens: int,
    chunk: int,
    batch_size: int,
    dtype: str,
    route: Literal["packed", "padded"],
    seed: int,
) -> RevisionRows:
    """Revision rows: for each response its rounds 1..`rounds`, so that one chain feeds every ablation.

    Source: Bai et al. 2022, section 3.1; `critique=False` is the direct revision of section 3.5. `counts.json` says how
    often a prompt was cut, replies stopped, and each rule of the cleaning changed one.
    """
    from cai_lightning.constitution.critique import CRITIQUE_STOP, REVISION_STOP, revise
    from cai_lightning.constitution.styles import solved
    from cai_lightning.stages.reading import write_counts
    from cai_lightning.stages.sampling import key_of, load_backend, sampled_counts
    from cai_lightning.stages.session import progress
    from cai_lightning.text.backends import Sampling
    from cai_lightning.text.chunks import in_chunks

    backend = load_backend(reviser, dtype=dtype, batch_size=batch_size, route=route)
    rows = read_rows(responses, Response)
    principles = {principle.id: principle for principle in constitution.revising}
    examples = tuple(map(solved, constitution.critique_few_shots))

    def work(part: Sequence[Response]) -> list[Revision]:
        made = revise(
            backend,
            part,
            constitution,
            style=style,
            cleaning=cleaning,
            rounds=rounds,
            critique=critique,
            replacement=replacement,
            seed=seed,
            critique_sampling=Sampling(temperature, critique_tokens, CRITIQUE_STOP, seed),
            revision_sampling=Sampling(temperature, revision_tokens, REVISION_STOP, seed),
            model=key_of(reviser),
        )
        return [
            replace(row, cut=any(prompt in backend.cut for prompt in _asked(row, principles, examples, style)))
            if backend.cut
            else row
            for row in made
        ]

    with progress(len(rows), "chains") as advance:
        in_chunks(out, rows, size=chunk, work=work, advance=advance)
    revisions = read_rows(out, Revision)
    fired = Counter(name for revision in revisions for name in revision.cleaned)
    write_counts(out, {**sampled_counts(revisions), "cleaned": dict(sorted(fired.items()))})
    return out


def _asked(
    row: Revision, principles: Mapping[str, Principle], examples: Sequence[Steps], style: Style
) -> Iterator[Prompt]:
    """The prompts that a revision came from."""
    from cai_lightning.constitution.critique import critique_steps, direct_steps, revision_steps

    dialogue, principle = row.prompt.dialogue, principles[row.principle]
    if row.critique is None:
        yield style((), direct_steps(dialogue, row.previous, principle))
        return
    first = critique_steps(dialogue, row.previous, principle)
    yield style(examples, first)
    yield style(examples, revision_steps(first, row.critique, principle))


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Two samples a round and response, or one without critique."""
    given = recipe["responses"]
    asked, principles = request(recipe["constitution"]), recipe["constitution"]
    examples = max(shown(principles, "critique_few_shots"), shown(principles, "revision_few_shots"))
    critique = (examples + given.length + asked + recipe["critique_tokens"]) if recipe["critique"] else 0
    revision = max(critique, given.length) + asked + recipe["revision_tokens"]
    rows = given.rows * recipe["rounds"]
    new = recipe["revision_tokens"]
    memory = sampled(recipe, recipe["reviser"], rows=given.rows, prompt=revision - new, new=new)
    calls, tokens = rows * (1 + recipe["critique"]), rows * (critique + revision)
    return Estimate(rows, calls, tokens, given.length, given.rows, memory=memory, shape=recipe["reviser"].shape)
