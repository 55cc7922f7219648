"""Comparisons to be labelled: two samples a prompt from one policy (Bai et al. 2022, section 4.1)."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cai_lightning.stages.estimates import Estimate, sampled
from cai_lightning.text.artifacts import CausalLM, ComparisonRows, PromptRows
from cai_lightning.text.records import ROWS, Comparison, Prompt, Response, read_rows, write_rows

if TYPE_CHECKING:
    from cai_lightning.data.unfinished import Unfinished

_COMPARED = "compared.jsonl"


def run(
    out: Path,
    *,
    policy: CausalLM,
    prompts: PromptRows,
    temperatures: tuple[float, float],
    max_new_tokens: int,
    stop: list[str],
    unfinished: Unfinished,
    chunk: int,
    batch_size: int,
    dtype: str,
    route: Literal["packed", "padded"],
    seed: int,
) -> ComparisonRows:
    """Comparison rows; pairs of equal replies are left out, for there is nothing to compare.

    `unfinished` says whether a reply that was cut is compared, and later learned with an end token. `counts.json` has
    the comparisons, and of all samples how many prompts were cut and how many replies stopped.
    """
    from cai_lightning.stages.sampling import load_backend, provenance
    from cai_lightning.stages.session import progress
    from cai_lightning.text.backends import Request, Sampling
    from cai_lightning.text.chunks import in_chunks, join

    samples = out / "samples"
    if (out / ROWS).exists():
        shutil.rmtree(samples, ignore_errors=True)
        return out
    backend = load_backend(policy, dtype=dtype, batch_size=batch_size, route=route)
    rows = read_rows(prompts, Prompt)
    first, second = (Sampling(t, max_new_tokens, tuple(stop), seed) for t in temperatures)

    def work(part: Sequence[Prompt]) -> Iterator[Response]:
        # both in one call: their prompts are read once
        asked = [
            Request(f"{prompt.id}/{letter}", prompt.dialogue, temperature)
            for prompt in part
            for letter, temperature in zip("ab", temperatures, strict=True)
        ]
        drawn = backend.generate(asked, first)
        for prompt, *both in zip(part, drawn[::2], drawn[1::2], strict=True):
            for letter, done, sampling in zip("ab", both, (first, second), strict=True):
                origin = provenance(done, sampling, policy, cut=prompt.dialogue in backend.cut)
                yield Response(id=f"{prompt.id}/{letter}", prompt=prompt, **origin)

    samples.mkdir(exist_ok=True)
    with progress(len(rows), "pairs") as advance:
        in_chunks(samples, rows, size=chunk, work=work, advance=advance)
    drawn = read_rows(samples, Response)
    write_rows(samples, _compared(out, drawn[::2], drawn[1::2], unfinished), _COMPARED)
    join(out, [samples / _COMPARED])
    shutil.rmtree(samples)
    return out


def _compared(
    out: Path, first: Sequence[Response], second: Sequence[Response], unfinished: Unfinished
) -> list[Comparison]:
    """The comparisons that the samples make, and `counts.json` of all of them."""
    from cai_lightning.stages.reading import write_counts
    from cai_lightning.stages.sampling import sampled_counts

    rows: list[Comparison] = []
    counts = Counter(equal=0, unfinished=0)
    for a, b in zip(first, second, strict=True):
        ends = unfinished(a.finish == "stop"), unfinished(b.finish == "stop")
        if a.text == b.text or ends[0] is None or ends[1] is None:
            counts["equal" if a.text == b.text else "unfinished"] += 1
            continue
        rows.append(
            Comparison(
                id=a.prompt.id,
                prompt=a.prompt,
                a=a.text,
                b=b.text,
                source="samples",
                model=a.model,
                temperature=a.temperature,
                seed=a.seed,
                ended=(ends[0], ends[1]),
            )
        )
    of_samples = sampled_counts([*first, *second])
    no_end = sum(row.ended != (True, True) for row in rows)
    write_counts(out, {**of_samples, "rows": len(rows), "no_end": no_end, "dropped": dict(counts)})
    return rows


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Two samples a prompt."""
    given = recipe["prompts"]
    length = 2 * (given.length + recipe["max_new_tokens"])
    memory = sampled(recipe, recipe["policy"], rows=given.rows, prompt=given.length, new=recipe["max_new_tokens"])
    calls, shape = 2 * given.rows, recipe["policy"].shape
    return Estimate(given.rows, calls, given.rows * length, length, given.rows, memory=memory, shape=shape)
