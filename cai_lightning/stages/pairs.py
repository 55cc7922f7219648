"""Comparisons to be labelled: two samples a prompt from one policy (Bai et al. 2022, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cai_lightning.stages.estimates import Estimate, sampled
from cai_lightning.text.artifacts import CausalLM, ComparisonRows, PromptRows
from cai_lightning.text.records import Comparison, Prompt, read_rows


def run(
    out: Path,
    *,
    policy: CausalLM,
    prompts: PromptRows,
    temperatures: tuple[float, float],
    max_new_tokens: int,
    stop: list[str],
    chunk: int,
    batch_size: int,
    dtype: str,
    seed: int,
) -> ComparisonRows:
    """Comparison rows; pairs of equal replies are left out, for there is nothing to compare."""
    from cai_lightning.stages.sampling import key_of, load_backend, reply
    from cai_lightning.stages.session import progress
    from cai_lightning.text.backends import Sampling
    from cai_lightning.text.chunks import in_chunks

    backend = load_backend(policy, dtype=dtype, batch_size=batch_size)
    rows = read_rows(prompts, Prompt)
    first, second = (Sampling(t, max_new_tokens, tuple(stop), seed) for t in temperatures)

    def work(part: Sequence[Prompt]) -> Iterator[Comparison]:
        a = reply(backend, part, first, lambda prompt: f"{prompt.id}/a")
        b = reply(backend, part, second, lambda prompt: f"{prompt.id}/b")
        for prompt, one, other in zip(part, a, b, strict=True):
            if one.text != other.text:
                yield Comparison(
                    id=prompt.id,
                    prompt=prompt,
                    a=one.text,
                    b=other.text,
                    source="samples",
                    model=key_of(policy),
                    temperature=first.temperature,
                    seed=seed,
                )

    with progress(len(rows), "pairs") as advance:
        in_chunks(out, rows, size=chunk, work=work, advance=advance)
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Two samples a prompt."""
    given = recipe["prompts"]
    length = 2 * (given.length + recipe["max_new_tokens"])
    memory = sampled(recipe, recipe["policy"], rows=given.rows, prompt=given.length, new=recipe["max_new_tokens"])
    calls, shape = 2 * given.rows, recipe["policy"].shape
    return Estimate(given.rows, calls, given.rows * length, length, given.rows, memory=memory, shape=shape)
