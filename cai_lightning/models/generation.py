"""Sampling by transformers' own `generate`, with our noise: for models that cannot read packed rows; an oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from cai_lightning.models.causal import evaluating
from cai_lightning.models.sampler import Sampled, draws, token_kinds
from cai_lightning.models.stopping import StopStrings


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    row_keys: Sequence[int],
    seed: int,
    temperatures: Sequence[float],
    limits: Sequence[int],
    eos: tuple[int, ...],
    stop: StopStrings | None,
    slots: int,
    on_token: Callable[[int, int], None] | None = None,
    on_end: Callable[[int], None] | None = None,
) -> list[Sampled]:
    """What `sampler.sample` gives, by batches of `slots` left-padded rows, each as long as its longest reply."""
    if not all(map(len, prompts)):
        raise ValueError("a prompt has no token; a model needs one to go on from")
    found = {row: Sampled([], "length") for row, limit in enumerate(limits) if limit == 0}
    order = sorted(set(range(len(prompts))) - set(found), key=lambda row: (len(prompts[row]), row))
    for first in range(0, len(order), slots):
        rows = order[first : first + slots]
        width = max(len(prompts[row]) for row in rows)
        noise = _Noise(
            torch.tensor([row_keys[row] for row in rows], dtype=torch.int64, device=model.device),
            torch.tensor([temperatures[row] for row in rows], dtype=torch.float32, device=model.device),
            seed,
            width,
        )
        kinds = token_kinds(int(model.get_output_embeddings().weight.shape[0]), eos, stop)
        ends = _Ends(kinds, stop, rows, [limits[row] for row in rows])
        longest = max(limits[row] for row in rows)
        settings = GenerationConfig(
            max_new_tokens=longest, do_sample=False, eos_token_id=list(eos) or None, pad_token_id=0
        )
        ends.tell = on_token
        ids = [[0] * (width - len(prompts[row])) + list(prompts[row]) for row in rows]
        mask = [[0] * (width - len(prompts[row])) + [1] * len(prompts[row]) for row in rows]
        with evaluating(model), _configured(model, settings):
            model.generate(
                torch.tensor(ids, device=model.device),
                attention_mask=torch.tensor(mask, device=model.device),
                generation_config=settings,
                logits_processor=LogitsProcessorList([noise]),
                stopping_criteria=StoppingCriteriaList([ends]),
            )
        for row, drawn, stopped in zip(rows, ends.drawn, ends.stopped, strict=True):
            found[row] = Sampled(drawn, "stop" if stopped else "length")
        if on_end is not None:
            on_end(len(rows))
    return [found[row] for row in range(len(prompts))]


@contextmanager
def _configured(model: PreTrainedModel, settings: GenerationConfig) -> Iterator[None]:
    """The model without its own settings inside: what ours leave open they would fill, with penalties and the like."""
    before = model.generation_config
    model.generation_config = settings
    try:
        yield
    finally:
        model.generation_config = before


class _Noise(LogitsProcessor):  # type: ignore[misc]
    """Makes the id that `draws` would draw the only one."""

    def __init__(self, keys: Tensor, temperatures: Tensor, seed: int, width: int) -> None:
        self._keys, self._temperatures, self._seed, self._width = keys, temperatures, seed, width

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        steps = torch.full_like(self._keys, input_ids.shape[1] - self._width)
        drawn = draws(scores.float(), self._keys, steps, seed=self._seed, temperatures=self._temperatures)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn[:, None], 0.0)


class _Ends(StoppingCriteria):  # type: ignore[misc]
    """Notes what each row draws up to its end, and stops it there."""

    def __init__(self, kinds: Tensor, stop: StopStrings | None, rows: Sequence[int], limits: Sequence[int]) -> None:
        self._kinds, self._stop, self._rows, self._limits = kinds, stop, rows, limits
        self.drawn: list[list[int]] = [[] for _ in rows]
        self.done = [False] * len(rows)
        self.stopped = [False] * len(rows)
        self.tell: Callable[[int, int], None] | None = None

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ARG002
        for place, id in enumerate(input_ids[:, -1].tolist()):
            if self.done[place]:
                continue
            self.drawn[place].append(id)
            if self.tell is not None:
                self.tell(self._rows[place], id)
            kind = int(self._kinds[id])
            self.stopped[place] = kind == 2 or (kind == 1 and self._stop is not None and self._stop(self.drawn[place]))
            self.done[place] = self.stopped[place] or len(self.drawn[place]) == self._limits[place]
        return torch.tensor(self.done, device=input_ids.device)
