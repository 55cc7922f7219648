"""How far a policy has moved from its reference, measured on replies that it sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel

from cai_lightning.models.attention import hidden_states
from cai_lightning.models.causal import evaluating
from cai_lightning.models.engine import positions
from cai_lightning.models.format import Format
from cai_lightning.models.logprobs import branch_sums, logits_of
from cai_lightning.models.packing import Packed, Tree, pack, places
from cai_lightning.text.backends import Prompt


class Divergence(NamedTuple):
    """Of one reply, in nats: the sum over its tokens of KL(policy || reference), and the log-ratio of the reply."""

    kl: float
    log_ratio: float


@torch.inference_mode()
def divergences(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    format: Format,
    prompts: Sequence[Prompt],
    replies: Sequence[str],
    ended: Sequence[bool],
    *,
    temperature: float,
    batch_size: int,
) -> list[Divergence]:
    """The divergence of each reply, in order; both models at the temperature that the replies were sampled at.

    The mean of `kl` over a policy's own replies estimates the KL of its replies without the noise of the last draw of
    each token (Rao-Blackwell), and is never negative; the mean of `log_ratio` estimates the same with that noise.
    `ended` replies count their end token. A prompt that is too long loses its beginning; raises ValueError where none
    of it fits.
    """
    tails = format.reply_ids(replies, ended=ended)
    rows = [_fitted(format, prompt, tail, positions(policy)) for prompt, tail in zip(prompts, tails, strict=True)]
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]) + len(tails[place]))
    found: dict[int, Divergence] = {}
    with evaluating(policy), evaluating(reference):
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            packed = pack([Tree(rows[number], [tails[number]]) for number in numbers]).to(policy.device)
            values = zip(*_sums(policy, reference, packed, temperature), strict=True)
            found.update(zip(numbers, (Divergence(*one) for one in values), strict=True))
    return [found[place] for place in range(len(rows))]


def _sums(
    policy: PreTrainedModel, reference: PreTrainedModel, packed: Packed, temperature: float
) -> tuple[list[float], list[float]]:
    targets = places(packed).to(packed.ids.device)

    def logs(model: PreTrainedModel) -> Tensor:
        states = hidden_states(model, packed)
        return log_softmax(logits_of(model, packed, targets, states, temperature=temperature).float(), dim=-1)

    ours, theirs = logs(policy), logs(reference)
    ids = packed.ids[targets][:, None]
    ratio = (ours - theirs).gather(1, ids)[:, 0]
    kl = (ours.exp() * (ours - theirs)).sum(-1)
    return branch_sums(packed, kl).tolist(), branch_sums(packed, ratio).tolist()


def _fitted(format: Format, prompt: Prompt, tail: Sequence[int], reads: int) -> list[int]:
    found = format.fitted(prompt, reads - len(tail), inside=True)
    if found is None:
        raise ValueError(f"a reply of {len(tail)} tokens leaves no room for its last turn among the {reads} read")
    return found[0]
