"""What kind of loss a recipe names, told by the file that it is written in: a plan loads no torch to look at it.

A loss of another package is looked at when its stage begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FROM_REFERENCE = "cai_lightning.learning.losses"
REFERENCE_FREE = "cai_lightning.learning.reference_free"
UNPAIRED = "cai_lightning.learning.unpaired_losses"
UNREAD = "reference: this loss looks at the policy alone; set stages.dpo.reference=null"


def check_of_pairs(recipe: Mapping[str, Any]) -> None:
    """Raises ValueError where the loss is none of pairs, or is given a reference that it does not read."""
    if _file(recipe) == UNPAIRED:
        raise ValueError(
            "loss: is one of replies rated alone; give this stage one of pairs, as loss@stages.dpo.loss=dpo"
        )
    if _file(recipe) == REFERENCE_FREE and recipe["reference"] is not None:
        raise ValueError(UNREAD)


def check_of_replies(recipe: Mapping[str, Any]) -> None:
    """Raises ValueError where the loss is none of replies that were rated alone, which all need the reference."""
    if _file(recipe) in (FROM_REFERENCE, REFERENCE_FREE):
        raise ValueError(
            "loss: is one of pairs; give this stage one of replies rated alone, as unpaired_loss@stages.kto.loss=kto"
        )


def _file(recipe: Mapping[str, Any]) -> str:
    return str(recipe["loss"]["_target_"]).rpartition(".")[0]
