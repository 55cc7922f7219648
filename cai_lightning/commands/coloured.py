"""Tokens with their part in the loss: learned ones green, the prompt dim, control tokens inverse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text


def coloured(tokenizer: Any, ids: Sequence[int], weights: Sequence[float], *, plain: bool) -> Text:
    """The ids as text; neighbours differ in brightness. `plain` puts [brackets] around every learned token instead."""
    control = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    text = Text()
    for place, (id, weight) in enumerate(zip(ids, weights, strict=True)):
        piece = tokenizer.decode([id], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if plain:
            text.append(f"[{piece}]" if weight else piece)
        else:
            shade = ("green", "bright_green")[place % 2] if weight else "dim"
            text.append(piece, f"{shade} reverse" if id in control else shade)
    return text
