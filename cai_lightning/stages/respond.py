"""First replies: one sample a prompt from one model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cai_lightning.stages.estimates import Estimate, sampled
from cai_lightning.text.artifacts import CausalLM, PromptRows, ResponseRows
from cai_lightning.text.records import Prompt, Response, read_rows


def run(
    out: Path,
    *,
    policy: CausalLM,
    prompts: PromptRows,
    temperature: float,
    max_new_tokens: int,
    stop: list[str],
    chunk: int,
    batch_size: int,
    dtype: str,
    route: Literal["packed", "padded"],
    seed: int,
) -> ResponseRows:
    """Response rows, one a prompt, in the prompts' order (Bai et al. 2022, section 3.1: T = 1), and `counts.json`."""
    from cai_lightning.stages.reading import write_counts
    from cai_lightning.stages.sampling import load_backend, provenance, reply, sampled_counts
    from cai_lightning.stages.session import progress
    from cai_lightning.text.backends import Sampling
    from cai_lightning.text.chunks import in_chunks

    backend = load_backend(policy, dtype=dtype, batch_size=batch_size, route=route)
    sampling = Sampling(temperature, max_new_tokens, tuple(stop), seed)
    rows = read_rows(prompts, Prompt)

    def work(part: Sequence[Prompt]) -> Iterator[Response]:
        for prompt, done in zip(part, reply(backend, part, sampling, lambda p: f"{p.id}/response"), strict=True):
            cut = prompt.dialogue in backend.cut
            yield Response(id=prompt.id, prompt=prompt, **provenance(done, sampling, policy, cut=cut))

    with progress(len(rows), "replies") as advance:
        in_chunks(out, rows, size=chunk, work=work, advance=advance)
    write_counts(out, sampled_counts(read_rows(out, Response)))
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """One sample a prompt."""
    given = recipe["prompts"]
    length = given.length + recipe["max_new_tokens"]
    memory = sampled(recipe, recipe["policy"], rows=given.rows, prompt=given.length, new=recipe["max_new_tokens"])
    shape = recipe["policy"].shape
    return Estimate(given.rows, given.rows, given.rows * length, length, given.rows, memory=memory, shape=shape)
