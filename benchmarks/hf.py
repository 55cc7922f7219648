"""Transformers as it comes: `generate` on left-padded batches, one forward pass for letters."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import files
from benchmarks.measure import Task, seconds

Drawn = list[tuple[list[int], int]]
"""Prompts as ids, and how many tokens are drawn behind each."""


def sample(work: Path, *, size: str, rows: int, precision: str, batch_size: int | list[int]) -> dict[str, Any]:
    """Replies to prompts, each as long as the chosen one; of several batch sizes the quickest counts."""
    asked: Drawn = [(one.ids, one.limit) for _, one in files.replies(work, size, rows)]
    model = _model(work, size, precision)
    _warm(model, asked)
    sizes = [batch_size] if isinstance(batch_size, int) else batch_size
    tried = {together: seconds(partial(_generate, model, asked, together))[0] for together in sizes}
    best = min(tried, key=lambda together: tried[together])
    return {"seconds": tried[best], "work": _did(model, asked, new=True), "batch_size": best}


def critique(
    work: Path, *, size: str, rows: int, precision: str, batch_size: int, prefix: bool = False
) -> dict[str, Any]:
    """Critiques; with `prefix` the user has the solved examples read once and hands their keys to every call."""
    asked: Drawn = [(one.ids, one.limit) for one in files.critiques(work, size, rows)]
    model = _model(work, size, precision)
    _warm(model, asked)
    run = _generate_behind_prefix if prefix else _generate
    spent, _ = seconds(lambda: run(model, asked, batch_size))
    return {"seconds": spent, "work": _did(model, asked, new=True)}


def label(work: Path, *, size: str, rows: int, precision: str, batch_size: int, principles: int) -> dict[str, Any]:
    """The log-odds of two letters at the end of questions."""
    import torch

    asked = files.questions(work, size, rows, principles=principles)
    model = _model(work, size, precision)

    def odds() -> list[float]:
        found: list[float] = []
        for first in range(0, len(asked), batch_size):
            batch = asked[first : first + batch_size]
            ids, mask = _padded([one.ids for one in batch])
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            with torch.inference_mode():
                out = model(ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1)
            table = out.logits[:, -1].float()[:, list(batch[0].letters)].log_softmax(-1)
            found += (table[:, 0] - table[:, 1]).tolist()
        return found

    spent, found = seconds(odds)
    return {"seconds": spent, "work": _did(model, [(one.ids, 0) for one in asked], new=False), "odds": found}


def _model(work: Path, size: str, precision: str) -> Any:
    from transformers import AutoModelForCausalLM

    dtype = {"fp32": "float32", "bf16": "bfloat16"}[precision]
    return AutoModelForCausalLM.from_pretrained(files.model(work, size), dtype=dtype).eval()


def _generate(model: Any, asked: Drawn, together: int) -> None:
    for batch in _batches(asked, together):
        ids, mask = _padded([prompt for prompt, _ in batch])
        _draw(model, ids, mask, [limit for _, limit in batch])


def _generate_behind_prefix(model: Any, asked: Drawn, together: int) -> None:
    import torch
    from transformers import DynamicCache

    common = _common([prompt for prompt, _ in asked])
    head = torch.tensor([common])
    read = DynamicCache(config=model.config)
    with torch.inference_mode():
        model(head, past_key_values=read, use_cache=True, logits_to_keep=1)
    for batch in _batches(sorted(asked, key=lambda one: len(one[0])), together):
        ids, mask = _padded([prompt[len(common) :] for prompt, _ in batch])
        cache = copy.deepcopy(read)
        cache.batch_repeat_interleave(len(batch))
        whole = torch.cat([head.expand(len(batch), -1), ids], 1)
        seen = torch.cat([torch.ones(len(batch), len(common), dtype=torch.long), mask], 1)
        _draw(model, whole, seen, [limit for _, limit in batch], past_key_values=cache)


def _draw(model: Any, ids: Any, mask: Any, limits: list[int], **more: Any) -> None:
    """Samples until every row is as long as it is to be: random weights never end a text."""
    import torch
    from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

    wanted = torch.tensor(limits)

    class Enough(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, drawn: Any, *_: Any, **__: Any) -> Any:
            return drawn.shape[1] - ids.shape[1] >= wanted

    settings = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0, max_new_tokens=max(limits)
    )
    model.generation_config = settings
    with torch.inference_mode():
        model.generate(ids, attention_mask=mask, stopping_criteria=StoppingCriteriaList([Enough()]), **more)


def _warm(model: Any, asked: Drawn) -> None:
    import torch

    torch.manual_seed(0)
    _generate(model, [(asked[0][0], 2)], 1)


def _batches(asked: Drawn, together: int) -> Iterator[Drawn]:
    return (asked[first : first + together] for first in range(0, len(asked), together))


def _padded(rows: Sequence[list[int]]) -> tuple[Any, Any]:
    """Ids and mask, padded on the left."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    return ids, torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])


def _common(prompts: list[list[int]]) -> list[int]:
    """What all prompts begin with; every one keeps a token of its own."""
    low, high = min(prompts), max(prompts)
    room = min(map(len, prompts)) - 1
    length = next((place for place, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return low[: min(length, room)]


def _did(model: Any, asked: Drawn, *, new: bool) -> dict[str, Any]:
    prompts = [prompt for prompt, _ in asked]
    dtype = str(model.dtype).removeprefix("torch.")
    did: dict[str, Any] = {"rows": len(prompts), "prompt_tokens": sum(map(len, prompts)), "dtype": dtype}
    return {**did, "new_tokens": sum(limit for _, limit in asked)} if new else did


TASKS: dict[str, Task] = {"sample": sample, "critique": critique, "label": label}
