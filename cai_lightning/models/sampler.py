"""The decode loop: slots that are filled again as rows end, keyed noise, and what prompts share read once.

Rows are taken in the order of their prompts' lengths, as many as there are free slots; what a row draws does not depend
on its neighbours beyond rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cai_lightning.models.attention import why_padded
from cai_lightning.models.causal import evaluating
from cai_lightning.models.grouping import alike, families, pieces
from cai_lightning.models.logprobs import head
from cai_lightning.models.noise import gumbel
from cai_lightning.models.packing import Tree, pack
from cai_lightning.models.prefixes import by_prefix
from cai_lightning.models.siblings import Siblings
from cai_lightning.models.slots import Cohort, Prefixes, Rows, read_prompts, read_tokens
from cai_lightning.models.stopping import StopStrings

# Dropping rows copies their keys, which costs about as much as a step: wait until a fifth of a cohort is idle.
_IDLE_SHARE = 0.2
# Slots are filled again once this share of them is free: reading prompts pays for several at once.
_REFILL_SHARE = 0.25
# Tokens of prompts in one pass: on a CPU what lies between the products stays in its cache, which is a third faster.
_TOGETHER, _TOGETHER_CPU = 1 << 14, 1 << 10
# A beginning is read apart for at least so many tokens, cut to a multiple: below, it saves less than its call costs.
LEAST, MULTIPLE = 32, 16


@dataclass(frozen=True)
class Sampled:
    """The drawn ids, the end token or stop string included, and whether the row stopped by itself."""

    ids: list[int]
    finish: Literal["stop", "length"]


@dataclass
class Counts:
    """What a model has read: tokens of prompts behind what they share, and steps of decoding with their rows."""

    prompt_tokens: int = 0
    steps: int = 0
    rows: int = 0


def draws(logits: Tensor, keys: Tensor, steps: Tensor, *, seed: int, temperatures: Tensor) -> Tensor:
    """The next id of each row: the argmax of logits / temperature + noise(seed, key, step), greedy at temperature 0."""
    greedy = temperatures == 0
    if bool(greedy.all()):
        return logits.argmax(-1)
    warm = logits / temperatures.masked_fill(greedy, 1.0)[:, None]
    noise = gumbel(seed, keys, steps, logits.shape[-1])
    return (warm + noise.masked_fill_(greedy[:, None], 0.0)).argmax(-1)


@torch.inference_mode()
def sample(
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
    prefixes: Prefixes | None = None,
    on_token: Callable[[int, int], None] | None = None,
    on_end: Callable[[int], None] | None = None,
    counts: Counts | None = None,
) -> list[Sampled]:
    """One continuation a prompt, in the order of the prompts, each with a limit of tokens; `slots` rows at a time.

    Token n of a row is drawn by `draws` at step n. Rows end with an id of `eos`, with a stop string, or at their
    limit. `prefixes` keeps the keys of beginnings from call to call. `on_token(row, id)` is told of each draw as it is
    made, and `on_end(n)` of n more rows that have ended. Works in eval mode whatever mode the model is in and leaves
    it so. Raises ValueError on an empty prompt, and where the model cannot read packed rows.
    """
    if not all(map(len, prompts)):
        raise ValueError("a prompt has no token; a model needs one to go on from")
    longest = max((len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True)), default=0)
    with evaluating(model):
        if reason := why_padded(model, longest):
            raise ValueError(f"{type(model).__name__}: {reason}; use route padded")
        kept, refill = prefixes or Prefixes(model), max(1, int(slots * _REFILL_SHARE))
        loop = _Loop(model, prompts, row_keys, seed, temperatures, limits, eos, stop, kept, counts or Counts())
        waiting, running = loop.waiting(), 0
        while running or waiting:
            while waiting and slots - running >= (min(len(waiting[0][1]), refill) if running else 1):
                prefix, rows = waiting.pop(0)
                taken, left = rows[: slots - running], rows[slots - running :]
                loop.admit(prefix, taken)
                running += len(taken)
                waiting[:0] = [(prefix, left)] if left else []
            new = loop.step()
            if on_token is not None:
                for row, id in new:
                    on_token(row, id)
            ended = loop.leave()
            running -= ended
            if on_end is not None and ended:
                on_end(ended)
    return loop.results()


class _Loop:
    """The rows at work: their cohorts, and the logits of their next tokens."""

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        row_keys: Sequence[int],
        seed: int,
        temperatures: Sequence[float],
        limits: Sequence[int],
        eos: tuple[int, ...],
        stop: StopStrings | None,
        prefixes: Prefixes,
        counts: Counts,
    ) -> None:
        self.model, self.prompts, self.prefixes, self.counts = model, prompts, prefixes, counts
        self.device = model.device
        self.seed, self.limits, self.stop = seed, limits, stop
        self.keys = torch.tensor(list(row_keys), dtype=torch.int64, device=self.device)
        self.temperatures = torch.tensor(temperatures, dtype=torch.float32, device=self.device)
        self.kinds = token_kinds(int(model.get_output_embeddings().weight.shape[0]), eos, stop).to(self.device)
        self.drawn: list[list[int]] = [[] for _ in prompts]
        self.ends: list[bool] = [False] * len(prompts)
        self.cohorts: list[Rows] = []
        self.members: list[list[int]] = []  # the rows of each cohort
        self.logits = torch.zeros(0)

    def waiting(self) -> list[tuple[tuple[int, ...], list[int]]]:
        """Beginnings, each with the rows behind it, shortest prompts first."""
        found = []
        same: dict[tuple[int, ...], list[int]] = {}  # equal prompts are read once as it is
        for row, (prompt, limit) in enumerate(zip(self.prompts, self.limits, strict=True)):
            if limit > 0:
                same.setdefault(tuple(prompt), []).append(row)
        distinct = list(same)
        for group in by_prefix(distinct, least=LEAST, multiple=MULTIPLE):
            prefix = distinct[group.rows[0]][: group.length]
            order = sorted(group.rows, key=lambda number: (len(distinct[number]), same[distinct[number]][0]))
            found.append((prefix, [row for number in order for row in same[distinct[number]]]))
        return found

    def admit(self, prefix: tuple[int, ...], rows: list[int]) -> None:
        """Reads the prompts of rows, equal ones once, and draws nothing yet."""
        known = self.prefixes(prefix)
        tails = [tuple(self.prompts[row][len(prefix) :]) for row in rows]
        places = {tail: number for number, tail in enumerate(dict.fromkeys(tails))}
        packs = [
            pack([Tree((), (tail,)) for tail in part]).to(self.device)
            for part in pieces(list(places), _TOGETHER_CPU if self.device.type == "cpu" else _TOGETHER)
        ]
        self.counts.prompt_tokens += sum(len(packed.ids) for packed in packs)
        before = list(accumulate((len(packed.ids) for packed in packs), initial=0))
        branches = [packed.branches + first for packed, first in zip(packs, before, strict=False)]
        starts, stops = torch.cat(branches).to(self.device).T
        cohorts: list[tuple[Rows, Tensor]] = []
        read: list[int] = []  # the prompt of each row, cohort by cohort
        for samples, asked in families(tails).items():
            for part in alike([len(tails[family[0]]) for family in asked], self._column_bytes()):
                together = [asked[number] for number in part]
                lengths = [len(tails[family[0]]) for family in together]
                index = torch.tensor([places[tails[family[0]]] for family in together], device=self.device)
                alone = samples == 1
                cohort = (
                    Cohort(known, lengths, self.device) if alone else Siblings(known, lengths, samples, self.device)
                )
                cohorts.append((cohort, starts[index]))
                self.members.append([rows[number] for family in together for number in family])
                read += [places[tails[number]] for family in together for number in family]
        states = read_prompts(self.model, packs, known, cohorts)
        self.cohorts += [cohort for cohort, _ in cohorts]
        logits = head(self.model, states[stops[torch.tensor(read, device=self.device)] - 1])
        self.logits = torch.cat([self.logits.to(logits), logits]) if len(self.logits) else logits

    def _column_bytes(self) -> int:
        """The bytes of one column of a row in one layer."""
        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * heads * width * self.model.dtype.itemsize)

    def step(self) -> list[tuple[int, int]]:
        """Draws one token a row; which rows drew which ids."""
        rows = [row for members in self.members for row in members]
        index = torch.tensor(rows, device=self.device)
        steps = torch.tensor([len(self.drawn[row]) for row in rows], device=self.device)
        drawn = draws(self.logits, self.keys[index], steps, seed=self.seed, temperatures=self.temperatures[index])
        new = []
        for row, id, kind in zip(rows, drawn.tolist(), self.kinds[drawn].tolist(), strict=True):
            if self.ends[row]:
                continue
            self.drawn[row].append(id)
            new.append((row, id))
            stopped = kind == 2 or (kind == 1 and self.stop is not None and self.stop(self.drawn[row]))
            if stopped or len(self.drawn[row]) == self.limits[row]:
                self.ends[row] = True
        self.newest = drawn
        return new

    def leave(self) -> int:
        """Lets rows go that have ended, then reads what the others drew; how many slots came free."""
        kept, first, freed = [], 0, 0
        cohorts, members = [], []
        for cohort, rows in zip(self.cohorts, self.members, strict=True):
            running = [place for place, row in enumerate(rows) if not self.ends[row]]
            if running and len(running) > (1 - _IDLE_SHARE) * len(rows):
                running = list(range(len(rows)))
            freed += len(rows) - len(running)
            if running and len(running) < len(rows):
                cohort.keep(torch.tensor(running, device=self.device))
            if running:
                cohorts.append(cohort)
                members.append([rows[place] for place in running])
                kept += [first + place for place in running]
            first += len(rows)
        self.cohorts, self.members = cohorts, members
        if not cohorts:
            self.logits = torch.zeros(0)
            return freed
        ids = self.newest if len(kept) == first else self.newest[torch.tensor(kept, device=self.device)]
        self.logits = head(self.model, read_tokens(self.model, ids, cohorts))
        self.counts.steps += 1
        self.counts.rows += len(ids)
        return freed

    def results(self) -> list[Sampled]:
        """What each row drew."""
        stopped = [bool(ids) and self._stopped(ids) for ids in self.drawn]
        return [Sampled(ids, "stop" if end else "length") for ids, end in zip(self.drawn, stopped, strict=True)]

    def _stopped(self, ids: list[int]) -> bool:
        kind = int(self.kinds[ids[-1]])
        return kind == 2 or (kind == 1 and self.stop is not None and self.stop(ids))


def token_kinds(vocab: int, eos: tuple[int, ...], stop: StopStrings | None) -> Tensor:
    """Per token 0: goes on, 1: may complete a stop string, 2: ends the row."""
    kinds = torch.zeros(vocab, dtype=torch.int8)
    if stop is not None:
        kinds[: len(stop.candidates)] = stop.candidates.to(torch.int8)
    kinds[list(eos)] = 2
    return kinds
