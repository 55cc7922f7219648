"""`cai chat KEY [KEY2]`: talk with a model, or with two side by side; /critique shows a critique of the last reply."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cai_lightning.commands.players import Player
from cai_lightning.commands.seats import Models, Seat
from cai_lightning.commands.workspace import Workspace
from cai_lightning.text.backends import Sampling
from cai_lightning.text.dialogue import MARKERS, Dialogue, Message

HELP = """/player KEY   another model in place of the first; it takes over the conversation
/side KEY     a second model beside the first; /side alone sends it away
/critique     a critique and a revision of the last reply, under a principle drawn for it
/reset        forget the conversation
/seed N       draw with another seed
/quit         end (so does the end of the input)"""
_COLOURS = ("cyan", "magenta")


def main(arguments: list[str], workspace: Workspace) -> int:
    """Exit code 0."""
    given = _parser().parse_args(arguments)
    for name in ("device", "threads"):
        os.environ.setdefault(f"CAI_{name.upper()}", str(workspace.value(f"runtime.{name}")))
    sampling = Sampling(given.temperature, given.max_new_tokens, tuple(given.stop), given.seed)
    start = (Message("system", given.system),) if given.system else ()
    chat = Chat(workspace, Console(highlight=False), sampling, start, given.constitution, given.style)
    for number, name in enumerate(given.keys):
        chat.seat(number, name)
    if chat.console.is_terminal:
        chat.console.print(Text(f"{' | '.join(seat.player.name for seat in chat.seats)}   /help says more", "dim"))
    for line in _lines():
        if line == "/quit":
            break
        chat.hear(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cai chat",
        description="Talk with a model of the store; words from a pipe are answered line by line.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("keys", metavar="KEY", nargs="+", help="key, slot of the latest run (ppo), snapshot (ppo@256)")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the likeliest token")
    parser.add_argument("--seed", type=int, default=0, help="the same words and seed give the same reply")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--stop", action="append", default=[MARKERS["human"]], help="a text that ends a reply")
    parser.add_argument("--system", metavar="TEXT", help="what is said before the conversation")
    parser.add_argument("--constitution", metavar="NAME|KEY", help="for /critique: a constitution, or a revising stage")
    parser.add_argument("--style", metavar="NAME", help="for /critique: how it is asked, an option of the group style")
    return parser


def _lines() -> Iterator[str]:
    """The lines that are typed, without those that say nothing."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        except KeyboardInterrupt:  # takes back what was being typed
            print()
            continue
        if line:
            yield line


class Chat:
    """One or two players who hear the same words; every player has its own conversation."""

    def __init__(
        self,
        workspace: Workspace,
        console: Console,
        sampling: Sampling,
        start: Dialogue,
        constitution: str | None,
        style: str | None,
    ) -> None:
        self.workspace, self.console, self.sampling, self.start = workspace, console, sampling, start
        self.constitution, self.style = constitution, style
        self.models = Models(workspace)
        self.seats: list[Seat] = []
        self.asked = 0

    def seat(self, place: int, name: str) -> None:
        """Puts a player in place 0 or 1; it takes over the conversation of the first."""
        if place > 1:
            raise ValueError("at most two players fit side by side; leave one out")
        dialogue = self.seats[0].dialogue if self.seats else self.start
        self.seats[place : place + 1] = [self.models.seat(name, dialogue)]

    def hear(self, line: str) -> None:
        """Answers a line, or does what it says; what goes wrong is one line and ends nothing."""
        try:
            if line.startswith("/"):
                self._command(*line[1:].partition(" ")[::2])
            else:
                self._answer(line)
        except KeyboardInterrupt:
            self.console.print(Text("(broken off, and forgotten)", "dim"))
        except Exception as error:  # a name that is not found has an error class of another room
            self.console.print(Text(f"cai: {' '.join(str(error).split())}", "red"), soft_wrap=True)

    def _command(self, verb: str, rest: str) -> None:
        rest = rest.strip()
        if verb == "player" and rest:
            self.seat(0, rest)
        elif verb == "side":
            if rest:
                self.seat(1, rest)
            else:
                del self.seats[1:]
        elif verb == "critique":
            for seat in self.seats:
                self._critique(seat)
        elif verb == "reset":
            for seat in self.seats:
                seat.dialogue = self.start
        elif verb == "seed" and rest.isdigit():
            sampling = self.sampling
            self.sampling = Sampling(sampling.temperature, sampling.max_new_tokens, sampling.stop, int(rest))
        else:
            self.console.print(Text(HELP, "dim"), soft_wrap=True)

    def _answer(self, words: str) -> None:
        if len(self.seats) > 1:
            self._side_by_side(words)
            return
        seat = self.seats[0]
        self.console.print(Text(f"{seat.player.name}: ", f"bold {_COLOURS[0]}"), end="")
        try:
            seat.answer(words, self.sampling, lambda piece: self.console.print(Text(piece), end="", soft_wrap=True))
        finally:
            self.console.print()

    def _side_by_side(self, words: str) -> None:
        shown = ["", ""]
        before = [seat.dialogue for seat in self.seats]
        live = Live(console=self.console, refresh_per_second=8) if self.console.is_terminal else None

        def show(place: int, piece: str) -> None:
            shown[place] += piece
            if live:
                live.update(self._columns(shown))

        try:
            with live or nullcontext():
                for place, seat in enumerate(self.seats):
                    seat.answer(words, self.sampling, lambda piece, place=place: show(place, piece))  # type: ignore[misc]
        except KeyboardInterrupt:  # both have heard the words, or none
            for seat, dialogue in zip(self.seats, before, strict=True):
                seat.dialogue = dialogue
            raise
        if live is None:
            self.console.print(self._columns(shown))

    def _columns(self, texts: list[str]) -> Table:
        grid = Table.grid(expand=True)
        for _ in texts:
            grid.add_column(ratio=1)
        panels = zip(self.seats, texts, _COLOURS, strict=True)
        grid.add_row(*(Panel(Text(text), title=seat.player.name, border_style=colour) for seat, text, colour in panels))
        return grid

    def _critique(self, seat: Seat) -> None:
        from cai_lightning.commands.critic import critic

        if not seat.dialogue or seat.dialogue[-1].role != "assistant":
            raise ValueError("nothing was said yet that could be criticised")
        found = critic(seat.player.result, self.workspace, wanted=self.constitution, style=self.style)
        reviser = found.reviser
        by = Player(reviser.name, reviser, reviser.path, None) if reviser else seat.player
        self.asked += 1
        *asked, reply = seat.dialogue
        principle, revised = found.revision(
            self.models.backend(by), tuple(asked), reply.content, row=f"chat/{self.asked}"
        )
        for name, words in (
            ("principle", f"{principle.id}: {principle.revision}"),
            ("critique", revised.critique),
            ("revision", revised.text),
        ):
            if words is not None:
                self.console.print(Text.assemble((f"{name}: ", "bold yellow"), words), soft_wrap=True)
        self.console.print(Text(f"(of {seat.player.name}'s reply, by {by.name})", "dim"))
