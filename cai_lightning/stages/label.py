"""AI feedback: P(a is better) for each comparison, from the letter log-probabilities of a feedback model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cai_lightning.constitution.feedback import Order
from cai_lightning.constitution.principles import Constitution
from cai_lightning.stages.estimates import REQUEST_TOKENS, Estimate
from cai_lightning.text.artifacts import CausalLM, ComparisonRows, LabelRows
from cai_lightning.text.records import Comparison, Label, read_rows


def run(
    out: Path,
    *,
    feedback_model: CausalLM,
    comparisons: ComparisonRows,
    constitution: Constitution,
    order: Order,
    clamp: tuple[float, float] | None,
    hard: bool,
    weight: float,
    chunk: int,
    batch_size: int,
    dtype: str,
    seed: int,
) -> LabelRows:
    """Label rows, one principle drawn per comparison (Bai et al. 2022, section 4.1 and 4.3 for the clamp)."""
    from cai_lightning.constitution.feedback import label
    from cai_lightning.stages.sampling import key_of, load_backend
    from cai_lightning.stages.session import progress
    from cai_lightning.text.chunks import in_chunks

    backend = load_backend(feedback_model, dtype=dtype, batch_size=batch_size)
    rows = read_rows(comparisons, Comparison)

    def work(part: Sequence[Comparison]) -> list[Label]:
        return label(
            backend,
            part,
            constitution,
            order=order,
            clamp=clamp,
            hard=hard,
            seed=seed,
            weight=weight,
            model=key_of(feedback_model),
        )

    with progress(len(rows), "labels") as advance:
        in_chunks(out, rows, size=chunk, work=work, advance=advance)
    return out


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """One scored text a comparison, two where both orders are asked."""
    given = recipe["comparisons"]
    calls = given.rows * (2 if recipe["order"]["_target_"].endswith(".both_orders") else 1)
    return Estimate(given.rows, calls, calls * (given.length + REQUEST_TOKENS), given.length, given.rows)
