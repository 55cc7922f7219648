"""Stop strings, found cheaply: a row is decoded only when its newest token could complete one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from cai_lightning.models.encoding import decode


class StopStrings:
    """Tells whether the ids of a reply end in a stop string, which may span several tokens.

    `candidates` [vocab] marks the tokens after which that is possible at all: those whose piece holds the last
    character of a stop string. The sampler asks only for rows that have just drawn one of them.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, strings: Sequence[str], *, vocab: int) -> None:
        if "" in strings:
            raise ValueError("a stop string is empty; every reply would end before its first word")
        self.tokenizer = tokenizer
        self.strings = tuple(strings)
        # a token holds a byte or more, and one more token lets a piece that starts before the string be read whole
        self.tail = max(len(string.encode()) for string in strings) + 1
        lasts = {string[-1] for string in strings}
        # byte-level pieces spell printable ASCII as it is and everything else in their own alphabet
        every = any(not "!" <= last <= "~" for last in lasts)
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        able = [
            every or (piece is not None and (piece.startswith("<0x") or not lasts.isdisjoint(piece)))
            for piece in pieces
        ]
        self.candidates: Tensor = torch.zeros(vocab, dtype=torch.bool)
        self.candidates[: min(vocab, len(able))] = torch.tensor(able[:vocab])

    def __call__(self, ids: Sequence[int]) -> bool:
        """Whether a stop string stands in the text of the last few ids."""
        text = decode(self.tokenizer, ids[-self.tail :])
        return any(string in text for string in self.strings)

    def cut(self, text: str) -> str:
        """The text before the first stop string."""
        return text[: min((at for at in map(text.find, self.strings) if at >= 0), default=len(text))]
