"""What the first batch of a fit must satisfy."""

import functools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from transformers import LlamaConfig

from cai_lightning.data.pairs import PairRow, collate_pairs
from cai_lightning.data.sft import SFTRow, collate_sft
from cai_lightning.data.unpaired import UnpairedRow, collate_unpaired
from cai_lightning.learning.losses import dpo_loss, ipo_loss
from cai_lightning.learning.unpaired_losses import kto_loss
from cai_lightning.microworld.vocabulary import tokenizer as make_tokenizer
from cai_lightning.models.engine import fits
from cai_lightning.models.format import Format
from cai_lightning.stages.checks import starts_at_the_reference, starts_unmoved, supervision

BEGUN = SimpleNamespace(global_step=0, accumulate_grad_batches=1)


def encoded(text: str, reply: str, *, end: bool) -> tuple[list[int], list[int]]:
    tokenizer = make_tokenizer()
    return tokenizer.encode(text), tokenizer.encode(reply) + ([tokenizer.eos_token_id] if end else [])


def first_batch(text: str, reply: str, *, learnt_prompt: int = 0, end: bool = True) -> Any:
    """The row in question behind a shorter one that is fine."""
    prompt, tail = encoded(text, reply, end=end)
    weights = [0.0] * (len(prompt) - learnt_prompt) + [1.0] * (len(tail) + learnt_prompt)
    short, sure = encoded("\n\nAssistant:", " sure", end=True)
    rows = [SFTRow(short + sure, [0.0] * len(short) + [1.0] * len(sure)), SFTRow(prompt + tail, weights)]
    return collate_sft(rows, [1, 0], 1.0, route="packed")


def check(batch: Any, **changes: Any) -> None:
    callback: Callback = supervision(Format(make_tokenizer()), **changes)
    callback.on_train_batch_start(BEGUN, None, batch, 0)


def test_a_reply_learnt_to_its_end_passes() -> None:
    check(first_batch("\n\nHuman: what\n\nAssistant:", " sure"))


def test_an_open_end_passes_where_it_is_allowed() -> None:
    check(first_batch("\n\nHuman: what\n\nAssistant:", " sure", end=False), every_end=False)


def pair(text: str, *, end: bool = True, share: int = 1) -> Any:
    """A batch of one pair, whose rejected reply has an end or not."""
    prompt, chosen = encoded(text, " sure", end=True)
    rejected = encoded(text, " no get", end=end)[1]
    return collate_pairs([PairRow("0", prompt, chosen, rejected, 0.9, 1.0, None, None)], [0], 1.0, share=share,
                         route="packed")  # fmt: skip


@pytest.mark.parametrize("share", [0, 1])
def test_both_replies_of_a_pair_are_looked_at_each_behind_its_prompt(share: int) -> None:
    asked = "\n\nHuman: what\n\nAssistant:"
    check(pair(asked, share=share))
    check(pair(asked + " no", share=share), marker=" no")
    with pytest.raises(ValueError, match="row 1 of the first batch learns no end token"):
        check(pair(asked, end=False, share=share))
    with pytest.raises(ValueError, match="row 0 of the first batch: what stands before the reply is not a prompt"):
        check(pair(asked + " no", share=share))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"end": False}, "learns no end token"), ({"learnt_prompt": 1}, "what stands before the reply is not a prompt")],
)
def test_a_learnt_prompt_or_an_open_end_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(first_batch("\n\nHuman: what\n\nAssistant:", " sure", **changes))


@pytest.mark.parametrize(
    # DPO starts at ln 2, where ln 3 is asked at ln 4, of p = 3/4 at 3/4 ln 4 + 1/4 ln 4/3; IPO at (1 / (2 beta))^2
    ("loss", "p_chosen", "margin", "start"),
    [
        (functools.partial(dpo_loss, beta=0.1), 0.9, 0.0, math.log(2)),
        (functools.partial(dpo_loss, beta=0.1), 1.0, math.log(3), math.log(4)),
        (functools.partial(dpo_loss, beta=0.1), 0.75, math.log(3), 0.75 * math.log(4) + 0.25 * math.log(4 / 3)),
        (functools.partial(ipo_loss, beta=0.1), 0.9, 0.0, 25.0),
    ],
)
def test_a_fit_starts_with_the_loss_of_the_reference(loss: Any, p_chosen: float, margin: float, start: float) -> None:
    row = PairRow("0", [2], [3], [4], p_chosen, 2.0, None, None, margin)
    batch = collate_pairs([row], [0], 2.0, share=1, route="packed")
    starts(starts_at_the_reference(loss, tolerance=0.02), batch, start)


@pytest.mark.parametrize(
    # half of each label's weight: 1/2; of replies of weights 1 and 3, which are good by 1 and 1/4, 3.5 / 4 and 4.5 / 4
    ("desirable", "undesirable", "start"),
    [(1.0, 1.0, 0.5), (2.0, 1.0, (2 * 1.75 + 2.25) / 8), (1.0, 0.0, 1.75 / 8)],
)
def test_kto_starts_at_half_the_weights_of_its_labels(desirable: float, undesirable: float, start: float) -> None:
    loss = functools.partial(kto_loss, beta=0.1, desirable_weight=desirable, undesirable_weight=undesirable)
    rows = [UnpairedRow("0", [2], [3], 1.0, 1.0), UnpairedRow("1", [2], [4], 0.25, 3.0)]
    batch = collate_unpaired(rows, [0, 1], 4.0, route="packed")
    starts(starts_unmoved(loss, tolerance=0.02), batch, start)


def starts(callback: Callback, batch: Any, start: float) -> None:
    """The callback lets this loss pass, and stops one a little farther off than its tolerance."""
    callback.on_train_batch_start(BEGUN, None, batch, 0)
    callback.on_before_backward(BEGUN, None, torch.tensor(start * 1.01))
    with pytest.raises(ValueError, match="rebuild the reference stage"):
        callback.on_before_backward(BEGUN, None, torch.tensor(start * 1.05))


def test_both_ends_of_a_rated_reply_are_looked_at() -> None:
    prompt, reply = encoded("\n\nHuman: what\n\nAssistant:", " sure", end=True)
    for tail, asked, message in (
        (reply, prompt, None),
        (reply[:-1], prompt, "row 0 of the first batch learns no end token"),
        (reply, [*prompt, *reply[:-1]], "row 0 of the first batch: what stands before the reply is not a prompt"),
    ):
        batch = collate_unpaired([UnpairedRow("0", asked, tail, 1.0, 1.0)], [0], 1.0, route="packed")
        if message is None:
            check(batch)
        else:
            with pytest.raises(ValueError, match=message):
                check(batch)


def test_rows_longer_than_the_model_reads_are_refused() -> None:
    model = SimpleNamespace(config=LlamaConfig(max_position_embeddings=64))
    fits(model, 64)
    with pytest.raises(ValueError, match="max_tokens: is 65, but the model has 64 positions"):
        fits(model, 65)
