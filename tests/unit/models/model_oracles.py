"""Slow answers to compare with: attention by loops, whole texts one at a time through the plain model."""

from __future__ import annotations

import torch

from cai_lightning.models.noise import gumbel
from cai_lightning.models.packing import Tree, pack, texts

TREES = [
    Tree([], [[5, 9, 3]]),
    Tree([7, 8, 9, 10, 11], [[12, 13], [14, 15, 16, 17]]),
    Tree([20, 21], [[22], [23, 24], [25, 26, 27]]),
    Tree([], [[30, 31, 32, 33, 34, 35], [36, 37]]),
    Tree([40, 41, 42, 43], [[44, 45, 46]]),
]


def whole_texts(trees):
    """The prompt and the branch of each text, one after the other."""
    return [[*map(int, prompt), *map(int, branch)] for prompt, branches in trees for branch in branches]


def seen(segments, before=0):
    """For each token the numbers of those that it sees, `before` in front of the row included."""
    found = []
    for start, stop, context_start, context_stop in segments:
        for place in range(start, stop):
            own = [*range(context_start, context_stop), *range(start, place + 1)]
            found.append([*range(before), *(before + each for each in own)])
    return found


def slow_attention(q, k, v, sights, scale):
    """What each query reads, and its log-sum-exps, one query, head and key at a time, in float64."""
    group = q.shape[1] // k.shape[1]
    out, sums = [], []
    for token, sight in enumerate(sights):
        for head in range(q.shape[1]):
            scores = [scale * (q[token, head].double() * k[each, head // group].double()).sum() for each in sight]
            weights = [score.exp() for score in scores]
            total = sum(weights)
            out.append(
                sum(
                    weight / total * v[each, head // group].double()
                    for weight, each in zip(weights, sight, strict=True)
                )
            )
            sums.append(total.log())
    return torch.stack(out).view(q.shape), torch.stack(sums).view(q.shape[:2])


def states_alone(model, trees):
    """The last layer's states of a packed row of the trees, from each whole text alone; and the row's texts."""
    packed = pack(trees)
    found = torch.zeros(len(packed.ids), model.config.hidden_size, dtype=model.dtype)
    for ids, places in zip(whole_texts(trees), texts(packed), strict=True):
        states = model(torch.tensor([ids]), output_hidden_states=True, use_cache=False).hidden_states[-1][0]
        found = found.index_copy(0, places, states)
    return found


def logits_alone(model, ids):
    """Float32 logits [token, vocab] of one text."""
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].float()


def continued(model, prompt, key, *, seed=3, temperature=1.0, steps=12, eos=()):
    """A sampled continuation, the whole text through the model at every step."""
    ids = list(prompt)
    for step in range(steps):
        logits = logits_alone(model, ids)[-1]
        if temperature:
            logits = logits / temperature + gumbel(seed, torch.tensor([key]), step, len(logits))[0]
        ids.append(int(logits.argmax()))
        if ids[-1] in eos:
            break
    return ids[len(prompt) :]


def check_continuation(model, prompt, row, key, *, seed=3, temperature=1.0, limit=12, eos=()):
    """That a row is what `continued` gives and ended rightly, by one forward pass over the whole text."""
    table = logits_alone(model, [*prompt, *row.ids])[len(prompt) - 1 : -1]
    if temperature:
        steps = torch.arange(len(row.ids))
        table = table / temperature + gumbel(seed, torch.full_like(steps, key), steps, table.shape[1])
    assert row.ids == table.argmax(-1).tolist()
    assert not set(row.ids[:-1]) & set(eos)
    assert row.finish == ("stop" if row.ids[-1] in eos else "length")
    assert row.finish == "stop" or len(row.ids) == limit


def scored(model, prompt, tail):
    """The log-probability of a continuation by the chain rule, one whole text."""
    table = torch.log_softmax(logits_alone(model, [*prompt, *tail]), dim=-1)
    return sum(table[len(prompt) + place - 1, id].item() for place, id in enumerate(tail))


def last_states(model, rows):
    """The last token's state of each whole text, through the plain model."""
    found = [model(torch.tensor([row]), output_hidden_states=True).hidden_states[-1][0, -1] for row in rows]
    return torch.stack(found)
