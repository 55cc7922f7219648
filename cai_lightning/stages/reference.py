"""Reference log-probabilities of labelled replies: made once, shared by every preference loss and beta."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cai_lightning.stages import memory
from cai_lightning.stages.estimates import Estimate, taken
from cai_lightning.text.artifacts import CausalLM, LabelRows, ReferenceRows
from cai_lightning.text.records import Label, Reference, read_rows


def run(
    out: Path,
    *,
    policy: CausalLM,
    labels: dict[str, LabelRows],
    base_dtype: str,
    merge: bool,
    max_tokens: int,
    plan: Callable[..., Any],
    batch_tokens: int,
    share: int,
    route: Literal["packed", "padded"],
    chunk: int,
    precision: str,
) -> ReferenceRows:
    """Reference rows: summed log-probabilities in nats of both replies of every label, by the frozen `policy`."""
    import torch

    from cai_lightning.data.pairs import reference_rows
    from cai_lightning.models.causal import load_causal
    from cai_lightning.models.engine import fits
    from cai_lightning.models.format import Format
    from cai_lightning.stages.session import autocast, device, prepare, progress
    from cai_lightning.text.chunks import in_chunks

    prepare()
    model, tokenizer = load_causal(policy, dtype=base_dtype, merge=merge)
    fits(model, max_tokens)
    model.to(device())
    format = Format(tokenizer)
    rows = [row for folder in labels.values() for row in read_rows(folder, Label)]

    def work(part: Sequence[Label]) -> list[Reference]:
        with torch.inference_mode(), autocast(precision):
            return reference_rows(
                model,
                part,
                format,
                max_tokens=max_tokens,
                plan=plan,
                batch_tokens=batch_tokens,
                share=share,
                route=route,
            )[0]

    with progress(len(rows), "labels") as advance:
        in_chunks(out, rows, size=chunk, work=work, advance=advance)
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Two scored texts a label."""
    rows, tokens = taken(recipe["labels"], dict.fromkeys(recipe["labels"]))
    together = recipe["batch_tokens"]
    needed = memory.scoring(recipe["policy"].shape, str(recipe["base_dtype"]), tokens=together, asked=together)
    return Estimate(rows, 2 * rows, tokens, memory=needed, shape=recipe["policy"].shape)
