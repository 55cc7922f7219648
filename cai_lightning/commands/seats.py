"""A player at a chat: its model, and the conversation as it has it, with its own replies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cai_lightning.commands.players import Player, is_reward, player
from cai_lightning.commands.workspace import Workspace
from cai_lightning.text.backends import Request, Sampling
from cai_lightning.text.dialogue import Dialogue, Message
from cai_lightning.text.records import prompt_id


@dataclass
class Seat:
    """A player and its conversation."""

    player: Player
    backend: Any
    dialogue: Dialogue

    def answer(self, words: str, sampling: Sampling, show: Callable[[str], None]) -> str:
        """The reply to the next human words, which both join the conversation; shown while it is drawn.

        Its noise has the name that an evaluation's has, so equal prompt, seed and temperature give equal replies.
        """
        from cai_lightning.commands.streaming import stream

        asked = (*self.dialogue, Message("human", words))
        reply = stream(self.backend, Request(f"{prompt_id(asked)}/answer", asked), sampling, show)
        self.dialogue = (*asked, Message("assistant", reply))
        return reply


class Models:
    """Players with their weights loaded, each folder once."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._loaded: dict[Any, Any] = {}

    def seat(self, name: str, dialogue: Dialogue) -> Seat:
        """The player called `name` with a conversation so far. Raises ValueError on what cannot talk."""
        wanted = player(self._workspace, name)
        return Seat(wanted, self.backend(wanted), dialogue)

    def backend(self, wanted: Player) -> Any:
        """The loaded model of a player, in the dtype that its weights are kept in."""
        if is_reward(wanted.folder):
            raise ValueError(f"{wanted.name}: a reward model gives scores and cannot talk; name a language model")
        if wanted.folder not in self._loaded:
            from cai_lightning.commands.huggingface import stored_dtype
            from cai_lightning.stages.sampling import load_backend

            self._loaded[wanted.folder] = load_backend(
                wanted.folder, dtype=stored_dtype(wanted.folder), batch_size=1, route="packed"
            )
        return self._loaded[wanted.folder]
