"""What the package is asked: replies, critiques and letters, through the backend that every stage uses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import files
from benchmarks.measure import Task, seconds

if TYPE_CHECKING:
    from cai_lightning.models.engine import CausalBackend
    from cai_lightning.text.backends import Request

DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


def sample(work: Path, *, size: str, rows: int, precision: str, slots: int) -> dict[str, Any]:
    """Replies to prompts as the stage `respond` asks for them, each as long as the chosen one."""
    from cai_lightning.text.backends import Request
    from cai_lightning.text.records import Prompt, from_object

    asked = files.replies(work, size, rows)
    requests = [
        Request(pair.label["id"], from_object(pair.label["prompt"], Prompt).dialogue, None, one.limit)
        for pair, one in asked
    ]
    return _generated(work, size, precision, slots, requests, [one for _, one in asked])


def critique(work: Path, *, size: str, rows: int, precision: str, slots: int) -> dict[str, Any]:
    """Critiques behind the solved examples that all requests begin with."""
    from cai_lightning.text.backends import Request

    asked = files.critiques(work, size, rows)
    requests = [Request(str(place), one.text, None, one.limit) for place, one in enumerate(asked)]
    return _generated(work, size, precision, slots, requests, asked)


def label(
    work: Path, *, size: str, rows: int, precision: str, slots: int, principles: int, bracket: bool = True
) -> dict[str, Any]:
    """The log-odds of two letters, of `principles` questions a pair.

    A question ends with the bracket before the letter, as the peer reads it, or without `bracket` as the stage `label`
    puts it: then " (A)" and " (B)" are scored.
    """
    from cai_lightning.text.backends import Query

    asked = files.questions(work, size, rows, principles=principles)
    queries = [Query(question.text, files.LETTERS) for question in asked]
    if not bracket:
        queries = [Query(question.text.removesuffix(" ("), (" (A)", " (B)")) for question in asked]
    backend = _backend(work, size, precision, slots)
    spent, scores = seconds(lambda: backend.score(queries))
    found = {"seconds": spent, "work": _did(backend, [question.ids for question in asked])}
    # with the bracket behind it a letter's score is another one
    return {**found, "odds": [a - b for a, b in scores]} if bracket else found


def _generated(
    work: Path, size: str, precision: str, slots: int, requests: list[Request], asked: list[files.Asked]
) -> dict[str, Any]:
    from cai_lightning.text.backends import Sampling

    backend = _backend(work, size, precision, slots)
    backend.eos = ()  # replies end where they are to end, as the peer's do
    backend.generate([replace(requests[0], max_new_tokens=2)], Sampling(1.0, 2, (), 0))
    sampling = Sampling(temperature=1.0, max_new_tokens=max(one.limit for one in asked), stop=("\n\nHuman:",), seed=0)
    spent, done = seconds(lambda: backend.generate(requests, sampling))
    if [one.prompt_tokens for one in done] != [len(one.ids) for one in asked]:
        raise ValueError("prompts: the backend reads other tokens than the peer; make the work anew")
    did = {**_did(backend, [one.ids for one in asked]), "new_tokens": sum(one.tokens for one in done)}
    return {"seconds": spent, "work": did, "prefixes": backend.prefixes.read}


def _backend(work: Path, size: str, precision: str, slots: int) -> CausalBackend:
    from cai_lightning.models.causal import load_causal
    from cai_lightning.models.engine import CausalBackend

    return CausalBackend(*load_causal(files.model(work, size), dtype=DTYPES[precision]), batch_size=slots)


def _did(backend: CausalBackend, prompts: list[list[int]]) -> dict[str, Any]:
    dtype = str(backend.model.dtype).removeprefix("torch.")
    return {"rows": len(prompts), "prompt_tokens": sum(map(len, prompts)), "dtype": dtype}


TASKS: dict[str, Task] = {"sample": sample, "critique": critique, "label": label}
