"""Replies and revisions as texts of players, for stages that say something of every text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cai_lightning.text.records import Answer, Prompt, Revision, read_rows


@dataclass(frozen=True)
class Text:
    """A text to a prompt; `at` is the RL samples of a snapshot, null at the end, or the round of a revision."""

    player: str
    at: int | None
    prompt: Prompt
    text: str

    @property
    def name(self) -> str:
        """The player, and `@` with where it stood, if that is said."""
        return self.player if self.at is None else f"{self.player}@{self.at}"


def answered(folders: Mapping[str, Path]) -> Iterator[Text]:
    """The answers in folders, each of the player that its folder's name is."""
    for name, folder in folders.items():
        for row in read_rows(folder, Answer):
            yield Text(name, row.sequences, row.prompt, row.text)


def revised(folders: Mapping[str, Path], *, beginnings: bool) -> Iterator[Text]:
    """The revisions in folders, and with `beginnings` as round 0 the reply that each chain began with."""
    for name, folder in folders.items():
        for row in read_rows(folder, Revision):
            if beginnings and row.round == 1:
                yield Text(name, 0, row.prompt, row.previous)
            yield Text(name, row.round, row.prompt, row.text)
