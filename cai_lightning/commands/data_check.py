"""What `cai data check` prints: what of the evaluation sets stands in training data, and a few places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cai_lightning.commands.source_rows import asked, source_rows
from cai_lightning.commands.workspace import Workspace
from cai_lightning.data.overlap import Leak, counts, duplicates, leaks
from cai_lightning.text.dialogue import to_text


def check(
    train: Sequence[str],
    against: Sequence[str],
    workspace: Workspace,
    *,
    words: int,
    containment: float,
    rows: int,
) -> int:
    """Exit code: 1 where any evaluation row leaks, else 0."""
    sets = {name: source_rows(workspace, name).rows for name in dict.fromkeys((*train, *against))}
    learned, asks = {name: sets[name] for name in train}, {name: sets[name] for name in against}
    found = leaks(learned, asks, words=words, containment=containment)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    head = ("evaluation", "rows", "training", "rows", "conversations", "first turns", "near", "from rows")
    for number, name in enumerate(head):
        table.add_column(name, justify="left" if number in (0, 2) else "right", overflow="fold")
    shared = counts(found, containment=containment)
    for evaluation, asked_rows in asks.items():
        for name, learned_rows in learned.items():
            some = shared.get((evaluation, name))
            numbers = (some.conversations, some.first_turns, some.near, some.train_rows) if some else (0, 0, 0, 0)
            sizes = (Path(evaluation).name, str(len(asked_rows)), Path(name).name, str(len(learned_rows)))
            table.add_row(*sizes, *map(str, numbers))
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "evaluation rows that share a conversation or a first turn, or nearly: "
        f"at least {containment:.0%} of their runs of {words} words",
        soft_wrap=True,
    )
    for name, some_rows in sets.items():
        if groups := duplicates(some_rows):
            extra = sum(len(group) - 1 for group in groups)
            console.print(f"{name}: {extra} rows repeat another one of the same set", soft_wrap=True)
    for leak in found[:rows]:
        console.print(_place(leak), soft_wrap=True)
        prompt = asked(asks[leak.evaluation][leak.evaluation_row])
        console.print(
            Text(f"   {_brief(prompt if isinstance(prompt, str) else to_text(prompt))}", "dim"), soft_wrap=True
        )
    if len(found) > rows:
        console.print(f"and {len(found) - rows} more pairs of rows")
    return 1 if found else 0


def _place(leak: Leak) -> str:
    same = (
        "the same conversation"
        if leak.conversation
        else "the same first turn"
        if leak.first_turn
        else "nearly the same"
    )
    return (
        f"{leak.evaluation} row {leak.evaluation_row} and {leak.train} row {leak.train_row}: {same}, "
        f"{leak.containment:.0%} shared"
    )


def _brief(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else line[:99] + "…"
