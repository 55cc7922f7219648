"""Log-probabilities of continuations by teacher forcing; what questions have in common is read once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel

from cai_lightning.models.attention import hidden_states
from cai_lightning.models.causal import evaluating
from cai_lightning.models.logprobs import branch_sums, chosen_logprobs, head, logits_of
from cai_lightning.models.packing import Packed, Route, Tree, pack, places
from cai_lightning.models.prefixes import Group, by_prefix
from cai_lightning.models.sampler import LEAST, MULTIPLE
from cai_lightning.models.slots import Prefix, Prefixes, read_prompts

Span = tuple[list[int], list[list[int]]]
"""The ids of a prompt and of the continuations that compete after it."""

# Of questions behind one beginning, those that go on alike for so many tokens are branches of one tree.
_FORK = 8


@torch.inference_mode()
def score_spans(
    model: PreTrainedModel,
    spans: Sequence[Span],
    *,
    rows: int,
    prefixes: Prefixes | None = None,
    route: Route = "packed",
    on_end: Callable[[int], None] | None = None,
) -> list[tuple[float, ...]]:
    """Summed log-probabilities in nats, one tuple a span, in order; about `rows` spans are read together.

    Prompts that begin alike are read as a tree of three levels: a beginning, whose keys `prefixes` keeps; what goes on
    alike behind it, such as a conversation under several principles; the rest. Where every continuation is one token,
    the prompt alone answers for all of them. `on_end(n)` is told of n more spans.
    """
    known = prefixes or Prefixes(model)
    scores: dict[int, tuple[float, ...]] = {}
    short = [number for number, (_, tails) in enumerate(spans) if all(len(tail) == 1 for tail in tails)]
    long = sorted(set(range(len(spans))) - set(short))
    with evaluating(model):
        for numbers, read in ((short, _letters), (long, _texts)):
            asked = [spans[number] for number in numbers]
            for group in _groups([prompt for prompt, _ in asked], route):
                prefix = tuple(asked[group.rows[0]][0][: group.length])
                for part in _parts(group.rows, rows):
                    values = read(model, [asked[row] for row in part], known(prefix), route)
                    scores.update((numbers[row], value) for row, value in zip(part, values, strict=True))
                    if on_end is not None:
                        on_end(len(part))
    return [scores[number] for number in range(len(spans))]


def _groups(prompts: Sequence[list[int]], route: Route) -> list[Group]:
    if route == "padded":
        return [Group(tuple(range(len(prompts))), 0)] if prompts else []
    return by_prefix(prompts, least=LEAST, multiple=MULTIPLE)


def _parts(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (rows[first : first + size] for first in range(0, len(rows), size))


def _letters(model: PreTrainedModel, spans: Sequence[Span], prefix: Prefix, route: Route) -> list[tuple[float, ...]]:
    """The log-probability of each continuation's one token."""
    ends = [prompt[prefix.length :] for prompt, _ in spans]
    forks = (
        by_prefix(ends, least=_FORK, multiple=1)
        if route == "packed"
        else [Group((row,), 0) for row in range(len(ends))]
    )
    trees = [Tree(ends[fork.rows[0]][: fork.length], [ends[row][fork.length :] for row in fork.rows]) for fork in forks]
    packed = pack(trees, route=route).to(model.device)
    states = _states(model, packed, prefix)[packed.branches[:, 1].to(model.device) - 1]
    table = log_softmax(head(model, states), dim=-1)
    found: dict[int, tuple[float, ...]] = {}
    for row, values in zip((row for fork in forks for row in fork.rows), table, strict=True):
        found[row] = tuple(values[[token for (token,) in spans[row][1]]].tolist())
    return [found[row] for row in range(len(spans))]


def _texts(model: PreTrainedModel, spans: Sequence[Span], prefix: Prefix, route: Route) -> list[tuple[float, ...]]:
    """The summed log-probability of each continuation."""
    packed = pack([Tree(prompt[prefix.length :], tails) for prompt, tails in spans], route=route).to(model.device)
    targets = places(packed).to(model.device)
    logits = logits_of(model, packed, targets, _states(model, packed, prefix), temperature=1.0)
    sums = iter(branch_sums(packed, chosen_logprobs(logits, packed.ids[targets])).tolist())
    return [tuple(next(sums) for _ in tails) for _, tails in spans]


def _states(model: PreTrainedModel, packed: Packed, prefix: Prefix) -> Tensor:
    return read_prompts(model, [packed], prefix) if packed.route == "packed" else hidden_states(model, packed)
