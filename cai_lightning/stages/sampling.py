"""What the sampling stages share: a loaded backend, and replies to many prompts in fixed chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai_lightning.text.backends import Completion, Generator, Request, Sampling
from cai_lightning.text.records import Prompt

if TYPE_CHECKING:
    from cai_lightning.models.engine import CausalBackend


def load_backend(path: Path, *, dtype: str, batch_size: int) -> CausalBackend:
    """A generator and scorer over a causal-LM folder, on this run's device."""
    from cai_lightning.models.causal import load_causal
    from cai_lightning.models.engine import CausalBackend
    from cai_lightning.stages.session import device, prepare

    prepare()
    model, tokenizer = load_causal(path, dtype=dtype)
    return CausalBackend(model.to(device()), tokenizer, batch_size=batch_size)


def key_of(path: Path) -> str:
    """The store key of an artifact: the name of its folder."""
    return path.name


def provenance(done: Completion, sampling: Sampling, policy: Path) -> dict[str, Any]:
    """The fields of a row that say what a sampled reply is and where it came from."""
    return {
        "text": done.text,
        "model": key_of(policy),
        "temperature": sampling.temperature,
        "seed": sampling.seed,
        "prompt_tokens": done.prompt_tokens,
        "tokens": done.tokens,
        "finish": done.finish,
    }


def reply(
    generator: Generator, prompts: Sequence[Prompt], sampling: Sampling, row: Callable[[Prompt], str]
) -> list[Completion]:
    """One reply a prompt; `row` names the noise of each."""
    return generator.generate([Request(row(prompt), prompt.dialogue) for prompt in prompts], sampling)
