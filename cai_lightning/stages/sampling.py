"""What the sampling stages share: a loaded backend, and replies to many prompts in fixed chunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cai_lightning.text.backends import Completion, Generator, Request, Sampling
from cai_lightning.text.records import Answer, Prompt, Response, Revision

if TYPE_CHECKING:
    from cai_lightning.models.engine import CausalBackend


def load_backend(
    path: Path, *, dtype: str, batch_size: int, route: Literal["packed", "padded"], cut_questions: bool = False
) -> CausalBackend:
    """A generator and scorer over a causal-LM folder, on this run's device.

    `route` packed is our own engine, padded transformers' `generate` and padded rows.
    `cut_questions` allows it to cut a question that is a text, solved examples first; else that is an error.
    """
    from cai_lightning.models.causal import load_causal
    from cai_lightning.models.engine import CausalBackend
    from cai_lightning.stages.session import device, prepare

    prepare()
    model, tokenizer = load_causal(path, dtype=dtype)
    model = model.to(device())
    return CausalBackend(model, tokenizer, batch_size=batch_size, route=route, cut_questions=cut_questions)


def key_of(path: Path) -> str:
    """The store key of an artifact: the name of its folder."""
    return path.name


def provenance(done: Completion, sampling: Sampling, policy: Path, *, cut: bool) -> dict[str, Any]:
    """The fields of a row that say what a sampled reply is and where it came from."""
    return {
        "text": done.text,
        "model": key_of(policy),
        "temperature": sampling.temperature,
        "seed": sampling.seed,
        "prompt_tokens": done.prompt_tokens,
        "tokens": done.tokens,
        "finish": done.finish,
        "cut": cut,
    }


def sampled_counts(rows: Sequence[Response | Revision | Answer]) -> dict[str, Any]:
    """The number of rows, of those whose prompt was cut, and of those that stopped or were cut at their longest.

    Of rows that were read again: the chunks of a run that was killed were counted by nobody.
    """
    finish = Counter(stop=0, length=0)
    finish.update(row.finish for row in rows)
    return {"rows": len(rows), "cut": sum(row.cut for row in rows), "finish": dict(finish)}


def reply(
    generator: Generator, prompts: Sequence[Prompt], sampling: Sampling, row: Callable[[Prompt], str]
) -> list[Completion]:
    """One reply a prompt; `row` names the noise of each."""
    return generator.generate([Request(row(prompt), prompt.dialogue) for prompt in prompts], sampling)
