"""What the first batch of a fit must satisfy, and what it saves: on by default, silent when all is well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

from cai_lightning.learning.guards import FirstBatch, FirstLoss, check_supervision
from cai_lightning.learning.losses import LossOutput, PreferenceInput
from cai_lightning.learning.unpaired_losses import UnpairedInput
from cai_lightning.models.encoding import begin_ids, decode
from cai_lightning.models.format import Format
from cai_lightning.models.packing import places, texts
from cai_lightning.text.records import Label


def supervision(format: Format, *, marker: str | None = None, every_end: bool = True) -> Callback:
    """Stops a fit whose first batch learns a prompt token, no end token, or holds two start tokens.

    `marker` is what prompts end with where they are no dialogues but texts of a reward model. Without `every_end` some
    replies are learned without an end token.
    """
    bos = format.begin if marker is None else next(iter(begin_ids(format.tokenizer)), None)

    def is_prompt(ids: list[int]) -> bool:
        return format.opens(ids) if marker is None else decode(format.tokenizer, ids).endswith(marker)

    def check(batch: Any) -> None:
        check_supervision(_read(batch), bos=bos, eos=format.end, is_prompt=is_prompt, every_end=every_end)

    return FirstBatch(check)


def _read(batch: Any) -> Iterator[tuple[list[int], list[float]]]:
    """The texts of a packed batch, and what each of their tokens weighs: those of the branches, or of the targets."""
    packed = batch.packed.to("cpu")
    weights = torch.zeros(len(packed.ids))
    weights[getattr(batch, "targets", places(packed)).cpu()] = getattr(batch, "weights", torch.ones(1)).cpu()
    for text in texts(packed):
        yield packed.ids[text].tolist(), weights[text].tolist()


def scores_as_saved(reward: Any, tokenizer: Any, out: Path, labels: Sequence[Label], *, tolerance: float) -> None:
    """Puts a saved reward adapter on the very model it was trained on and compares the scores of the labels' replies.

    Raises ValueError where one differs by more than `tolerance`. Whole models are written by their own library.
    """
    from cai_lightning.models.adapters import names, only
    from cai_lightning.models.reward import reward_on
    from cai_lightning.stages.session import device

    trained = names(reward.model)
    if not trained:
        return
    dialogues = [label.prompt.dialogue for label in labels for _ in "ab"]
    replies = [reply for label in labels for reply in (label.a, label.b)]
    reward.to(device())
    before = reward.score_replies(tokenizer, dialogues, replies, len(replies))
    saved = reward_on(reward.model, out, name="saved").to(device())
    with only(reward.model, [*trained[:-1], "saved"]):
        after = saved.score_replies(tokenizer, dialogues, replies, len(replies))
    for one, other in zip(before, after, strict=True):
        if not abs(one - other) <= tolerance:
            raise ValueError(
                f"{out}: a reply that scored {one:.4f} scores {other:.4f} with the saved adapter; save it in float32, "
                "or raise score_tolerance"
            )


def starts_at_the_reference(loss: Callable[[PreferenceInput], LossOutput], *, tolerance: float) -> Callback:
    """Stops a fit whose first loss is not that of policy = reference, within a share `tolerance` of it.

    For DPO that loss is ln 2, whatever the labels, where these ask for no margin.
    """

    def expected(batch: Any) -> float:
        zero, one = torch.zeros_like(batch.weight), torch.ones_like(batch.weight)
        at_reference = PreferenceInput(
            policy_chosen=zero,
            policy_rejected=zero,
            lengths_chosen=one,
            lengths_rejected=one,
            reference_chosen=zero,
            reference_rejected=zero,
            p_chosen=batch.p_chosen,
            weight=batch.weight,
            margin=batch.margin,
            source=batch.source,
            sources=(),
        )
        return loss(at_reference).loss.item()

    return FirstLoss(expected=expected, tolerance=tolerance)


def starts_unmoved(loss: Callable[[UnpairedInput], LossOutput], *, tolerance: float) -> Callback:
    """The same for a loss of unpaired replies: at first all log-ratios are 0, and so is the KL.

    For KTO that is half the mean weight of its labels: 1/2 where both of its weights are 1.
    """

    def expected(batch: Any) -> float:
        zero = torch.zeros_like(batch.weight)
        return loss(UnpairedInput(zero, zero, batch.p_desirable, batch.weight, zero.sum())).loss.item()

    return FirstLoss(expected=expected, tolerance=tolerance)
