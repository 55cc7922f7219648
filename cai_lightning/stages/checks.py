"""What the first batch of a fit must satisfy, as callbacks: on by default, silent when all is well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback

from cai_lightning.learning.guards import FirstBatch, FirstLoss, check_supervision
from cai_lightning.learning.losses import LossOutput, PreferenceInput
from cai_lightning.models.format import Format


def supervision(format: Format, weights_of: Callable[[Any], Any]) -> Callback:
    """Stops a fit whose first batch learns a prompt token, no end token, or holds two start tokens."""

    def check(batch: Any) -> None:
        check_supervision(
            batch.input_ids,
            weights_of(batch),
            bos=format.tokenizer.bos_token_id,
            eos=format.end,
            is_prompt=format.opens,
        )

    return FirstBatch(check)


def starts_at_the_reference(loss: Callable[[PreferenceInput], LossOutput], *, tolerance: float) -> Callback:
    """Stops a fit whose first loss is not that of policy = reference, within a share `tolerance` of it.

    For DPO that loss is ln 2, whatever the labels.
    """
    zero, one = torch.zeros(1), torch.ones(1)
    at_reference = PreferenceInput(
        policy_chosen=zero,
        policy_rejected=zero,
        lengths_chosen=one,
        lengths_rejected=one,
        reference_chosen=zero,
        reference_rejected=zero,
        p_chosen=one,
        weight=one,
    )
    expected = loss(at_reference).loss.item()
    return FirstLoss(expected=expected, tolerance=tolerance * expected)
