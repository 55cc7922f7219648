"""A player's answers to the evaluation prompts, and those of its snapshots where training published some."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cai_lightning.stages.estimates import Estimate, sampled
from cai_lightning.text.artifacts import AnswerRows, CausalLM, PromptRows
from cai_lightning.text.records import ROWS, Answer, Prompt, read_rows


def run(
    out: Path,
    *,
    player: str,
    policy: CausalLM,
    prompts: list[PromptRows],
    snapshots: bool,
    temperature: float,
    max_new_tokens: int,
    stop: list[str],
    chunk: int,
    batch_size: int,
    dtype: str,
    route: Literal["packed", "padded"],
    seed: int,
) -> AnswerRows:
    """Answer rows: every prompt once by the policy, and once by each snapshot (`sequences` = RL samples seen).

    `counts.json` has cut prompts and how replies ended. One model is loaded at a time.
    """
    from cai_lightning.stages.reading import write_counts
    from cai_lightning.stages.sampling import load_backend, provenance, reply, sampled_counts
    from cai_lightning.stages.session import progress
    from cai_lightning.text.backends import Sampling
    from cai_lightning.text.chunks import in_chunks, join

    rows = [prompt for folder in prompts for prompt in read_rows(folder, Prompt)]
    sampling = Sampling(temperature, max_new_tokens, tuple(stop), seed)
    models = [(None, policy), *(_snapshots(policy) if snapshots else [])]

    # in a function of its own: what it has loaded is gone when the next model is
    def answer(part: Path, sequences: int | None, path: Path, advance: Callable[[int], None]) -> None:
        backend = load_backend(path, dtype=dtype, batch_size=batch_size, route=route)

        def work(some: Sequence[Prompt]) -> Iterator[Answer]:
            done = reply(backend, some, sampling, lambda prompt: f"{prompt.id}/answer")
            for prompt, completion in zip(some, done, strict=True):
                origin = provenance(completion, sampling, policy, cut=prompt.dialogue in backend.cut)
                yield Answer(id=prompt.id, player=player, sequences=sequences, prompt=prompt, **origin)

        in_chunks(part, rows, size=chunk, work=work, advance=advance)

    with progress(len(models) * len(rows), "answers") as advance:
        for sequences, path in models:
            part = out / ("final" if sequences is None else f"{sequences:08d}")
            if (out / ROWS).exists() or (part / ROWS).exists():
                advance(len(rows))
                continue
            part.mkdir(exist_ok=True)
            answer(part, sequences, path, advance)
    parts = sorted(path for path in out.iterdir() if path.is_dir())
    if not (out / ROWS).exists():
        join(out, [part / ROWS for part in parts])
    for part in parts:
        shutil.rmtree(part)
    write_counts(out, sampled_counts(read_rows(out, Answer)))
    return out


def _snapshots(policy: Path) -> list[tuple[int | None, Path]]:
    folders = sorted((policy / "snapshots").glob("*"), key=lambda path: int(path.name))
    return [(int(folder.name), folder) for folder in folders]


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """One sample a prompt and player."""
    prompts = sum(given.rows for given in recipe["prompts"])
    rows = prompts * (recipe["policy"].players if recipe["snapshots"] else 1)
    asked, new = max(given.length for given in recipe["prompts"]), recipe["max_new_tokens"]
    memory = sampled(recipe, recipe["policy"], rows=prompts, prompt=asked, new=new)
    shape = recipe["policy"].shape
    return Estimate(rows, rows, rows * (asked + new), asked + new, prompts, memory=memory, shape=shape)
