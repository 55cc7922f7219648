"""The decode loop: a left-padded batch, keyed noise, and rows that leave when they are finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from cai_lightning.models.cache import capacity, slot_cache
from cai_lightning.models.causal import evaluating
from cai_lightning.models.noise import gumbel
from cai_lightning.models.stopping import StopStrings

# Dropping rows copies the cache, which costs about as much as a step: wait until a fifth of the rows is idle.
_IDLE_SHARE = 0.2


@dataclass(frozen=True)
class Sampled:
    """The drawn ids, the end token or stop string included, and whether the row stopped by itself."""

    ids: list[int]
    finish: Literal["stop", "length"]


@torch.inference_mode()
def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    row_keys: Sequence[int],
    seed: int,
    temperature: float,
    max_new_tokens: int,
    eos: tuple[int, ...],
    stop: StopStrings | None,
    on_token: Callable[[int, int], None] | None = None,
) -> list[Sampled]:
    """One continuation a prompt, at most `max_new_tokens` long, in the order of the prompts.

    Token n of a row is the argmax of logits / temperature + noise(seed, row key, n), and of the logits alone at
    temperature 0; so a row's draw does not depend on its neighbours beyond rounding. Pads are masked by length, never
    by id. Rows end with an id of `eos`, with a stop string, or at the length limit. All in one batch: the caller
    splits. `on_token(row, id)` is told of each draw as it is made. Works in eval mode whatever mode the model is in,
    and leaves it so. Raises ValueError on an empty prompt.
    """
    if not all(prompts):
        raise ValueError("a prompt has no token; a model needs one to go on from")
    if not prompts or max_new_tokens == 0:
        return [Sampled([], "length") for _ in prompts]
    with evaluating(model):
        batch = _Batch(model, prompts, max_new_tokens)
        kinds = _token_kinds(batch.logits.shape[-1], eos, stop).to(batch.logits.device)
        keys = torch.tensor(list(row_keys), dtype=torch.int64, device=kinds.device)
        drawn = torch.zeros(len(prompts), max_new_tokens, dtype=torch.int64, device=kinds.device)
        ends: list[int | None] = [None] * len(prompts)
        for step in range(max_new_tokens):
            new = _draw(batch.logits, keys, seed=seed, temperature=temperature, position=step)
            drawn[batch.rows, step] = new
            if on_token is not None:
                for row, id in zip(batch.rows.tolist(), new.tolist(), strict=True):
                    if ends[row] is None:
                        on_token(row, id)
            if _mark_ends(ends, kinds[new], batch.rows, drawn[:, : step + 1], stop):
                running = [place for place, row in enumerate(batch.rows.tolist()) if ends[row] is None]
                if not running:
                    break
                if len(running) <= (1 - _IDLE_SHARE) * len(new):
                    keep = torch.tensor(running, device=new.device)
                    batch.select(keep)
                    new, keys = new[keep], keys[keep]
            if step + 1 < max_new_tokens:
                batch.step(new)
    return [
        Sampled(ids[: max_new_tokens if end is None else end], "length" if end is None else "stop")
        for ids, end in zip(drawn.tolist(), ends, strict=True)
    ]


class _Batch:
    """The rows still in work: their cache, mask and positions, and the float32 logits of their next token."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]], room: int) -> None:
        device = model.device
        self.model = model
        self.rows = torch.arange(len(prompts), device=device)
        self.length = width = max(map(len, prompts))
        # pads may hold any id, as no real token sees them
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
        pads = torch.tensor([[width - len(prompt)] for prompt in prompts], device=device)
        slots = torch.arange(width, device=device)
        self.position = width - 1 - pads
        config = model.config.get_text_config()
        self.own = _takes_own_mask(model, width + room)
        self.cache = slot_cache(config.num_hidden_layers) if self.own else DynamicCache(config=config)
        self.mask = slots >= pads
        mask: Tensor | None = self.mask
        if self.own:
            # pads see themselves: a row that sees nothing has no softmax, and its NaN would spread through the values
            own = torch.eye(width, dtype=torch.bool, device=device)
            causal = self.mask[:, None] & (slots <= slots[:, None]) | own
            mask = _additive(causal, model.dtype)[:, None] if pads.any() else None
            filled = torch.zeros(len(prompts), capacity(width + room), dtype=torch.bool, device=device)
            filled[:, :width] = self.mask
            self.mask = _additive(filled, model.dtype)[:, None, None]
        self._forward(ids, (slots - pads).clamp_(min=0), mask)

    def step(self, new: Tensor) -> None:
        """Feeds one new token a row."""
        self.position = self.position + 1
        self.length += 1
        if self.own:
            self.mask[..., self.length - 1] = 0
            mask = self.mask[..., : capacity(self.length)]
        else:
            mask = self.mask = torch.cat([self.mask, self.mask.new_ones(len(new), 1)], dim=1)
        self._forward(new[:, None], self.position, mask)

    def select(self, places: Tensor) -> None:
        """Keeps the rows at these places."""
        self.cache.batch_select_indices(places)
        self.rows, self.position, self.mask = self.rows[places], self.position[places], self.mask[places]

    def _forward(self, ids: Tensor, position: Tensor, mask: Tensor | None) -> None:
        out: Any = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=position,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.logits = out.logits[:, -1].float()


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """A boolean mask as what is added to the attention scores."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, torch.finfo(dtype).min)


def _takes_own_mask(model: PreTrainedModel, length: int) -> bool:
    """Whether our mask and cache say all: not with a window shorter than the rows, nor with other attention kernels."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    return config._attn_implementation in ("sdpa", "eager") and (window is None or length <= window)


def _draw(logits: Tensor, keys: Tensor, *, seed: int, temperature: float, position: int) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    return (logits / temperature).add_(gumbel(seed, keys, position, logits.shape[-1])).argmax(-1)


def _token_kinds(vocab: int, eos: tuple[int, ...], stop: StopStrings | None) -> Tensor:
    """Per token 0: goes on, 1: may complete a stop string, 2: ends the row."""
    kinds = torch.zeros(vocab, dtype=torch.int8)
    if stop is not None:
        kinds[: len(stop.candidates)] = stop.candidates.to(torch.int8)
    kinds[list(eos)] = 2
    return kinds


def _mark_ends(ends: list[int | None], kinds: Tensor, rows: Tensor, drawn: Tensor, stop: StopStrings | None) -> bool:
    """Notes the length of each row that ends with its newest token; whether there was one."""
    places = kinds.nonzero()[:, 0]
    found = False
    for row, kind in zip(rows[places].tolist(), kinds[places].tolist(), strict=True):
        if ends[row] is None and (kind == 2 or (stop is not None and stop(drawn[row].tolist()))):
            ends[row], found = drawn.shape[1], True
    return found
