"""What `cai data inspect` shows: counts, lengths, what learning would cut or leave out, and a few rows."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cai_lightning.commands.coloured import coloured
from cai_lightning.commands.players import Player
from cai_lightning.commands.source_rows import SourceRows, asked, sides
from cai_lightning.text.dialogue import to_text
from cai_lightning.text.records import Label

_SHARES = (0, 5, 50, 95, 99, 100)
_FAULTS = 5


class Reader:
    """A model's way of reading: its format, and the prompt that it makes of a dialogue."""

    def __init__(self, player: Player) -> None:
        from cai_lightning.models.causal import load_tokenizer
        from cai_lightning.models.format import Format

        self.name = player.name
        self.format = Format(load_tokenizer(player.folder))
        settings = player.folder / "reward.json"
        self.marker = json.loads(settings.read_text(encoding="utf-8"))["marker"] if settings.is_file() else None

    def prompt(self, dialogue: Any) -> Any:
        """What stands before a reply; a reward model may read dialogues behind a mark of its own."""
        return dialogue if self.marker is None or isinstance(dialogue, str) else to_text(dialogue) + self.marker

    def tokens(self, row: Any) -> tuple[int, list[int]]:
        """The number of tokens of a row's prompt, and of each of its replies, end tokens included."""
        prompt = self.format.prompt_ids([self.prompt(asked(row))])[0]
        return len(prompt), [len(ids) for ids in self.format.reply_ids(list(sides(row).values()))]


def show(found: SourceRows, console: Console, *, reader: Reader | None, max_tokens: int, count: int, seed: int) -> None:
    """Prints all of it."""
    console.print(Text.assemble((found.name, "bold"), f": {len(found.rows)} rows, {found.format}"), soft_wrap=True)
    _show_counts(found, console)
    if found.rows:
        console.print(_lengths(found.rows, reader))
    chosen = sorted(found.rows, key=lambda row: hashlib.sha256(f"{seed}/{row.id}".encode()).digest())[:count]
    if reader is None or not any(map(sides, found.rows)):
        for row in chosen:
            console.print(_as_text(row), soft_wrap=True)
        return
    _show_learning(found.rows, console, reader, max_tokens)
    for row in chosen:
        _show_tokens(row, console, reader, max_tokens)


def _show_counts(found: SourceRows, console: Console) -> None:
    kinds = Counter((_of(row, "source"), _of(row, "kind")) for row in found.rows)
    prompts = len({str(asked(row)) for row in found.rows})
    parts = [f"{source or 'no source'} / {kind or 'no kind'}: {n}" for (source, kind), n in sorted(kinds.items())]
    console.print(f"{prompts} prompts; by source / kind: {', '.join(parts)}", soft_wrap=True)
    if found.dropped:
        left = ", ".join(f"{reason}: {n}" for reason, n in sorted(found.dropped.items()))
        console.print(f"left out by the reader: {left}", soft_wrap=True)
    for fault in found.skipped[:_FAULTS]:
        console.print(f"  bad row {fault}", soft_wrap=True)
    if len(found.skipped) > _FAULTS:
        console.print(f"  and {len(found.skipped) - _FAULTS} more")


def _of(row: Any, field: str) -> str:
    prompt = getattr(row, "prompt", row)
    return str(getattr(row, field, None) or getattr(prompt, field, None) or "")


def _lengths(rows: Sequence[Any], reader: Reader | None) -> Table:
    """Percentiles of the lengths of prompts and replies."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("length of")
    table.add_column("in")
    for share in _SHARES:
        name = {0: "min", 50: "median", 100: "max"}.get(share, f"{share} %")
        table.add_column(name, justify="right")
    prompts = [prompt if isinstance(prompt := asked(row), str) else to_text(prompt) for row in rows]
    names = list(sides(rows[0]))
    texts = {"prompt": prompts, **{name: [sides(row)[name] for row in rows] for name in names}}
    counted: list[tuple[int, list[int]]] = [reader.tokens(row) for row in rows] if reader else []
    for place, (name, some) in enumerate(texts.items()):
        units: dict[str, list[int]] = {"characters": [*map(len, some)], "words": [len(text.split()) for text in some]}
        if reader:
            units["tokens"] = [prompt if place == 0 else replies[place - 1] for prompt, replies in counted]
        for unit, values in units.items():
            table.add_row(name, unit, *(str(percentile(values, share)) for share in _SHARES))
    return table


def percentile(values: Sequence[int], share: int) -> int:
    """The smallest value that at least `share` per cent of the values do not exceed."""
    return sorted(values)[max(0, -(-share * len(values) // 100) - 1)]


def _show_learning(rows: Sequence[Any], console: Console, reader: Reader, max_tokens: int) -> None:
    ready, counts = learned(rows, reader, max_tokens)
    said = ", ".join(f"{reason}: {n}" for reason, n in counts.items())
    console.print(f"as {reader.name} would learn them, in at most {max_tokens} tokens: {said}", soft_wrap=True)
    fault = first_fault(ready, reader)
    console.print(
        Text(f"checks of a first batch: {fault}", "red") if fault else "checks of a first batch: passed", soft_wrap=True
    )
    console.print()


def learned(rows: Sequence[Any], reader: Reader, max_tokens: int) -> tuple[list[tuple[list[int], list[float]]], Any]:
    """Ids and loss weights of the rows as learning makes them (both sides of a pair), and what became of the rows."""
    from cai_lightning.data.pairs import pair_rows
    from cai_lightning.data.sft import sft_rows

    if isinstance(rows[0], Label):
        pairs, counts = pair_rows(rows, None, reader.format, asked=reader.prompt, max_tokens=max_tokens)
        return [
            ([*pair.prompt.tolist(), *reply.tolist()], [0.0] * len(pair.prompt) + [1.0] * len(reply))
            for pair in pairs
            for reply in (pair.chosen, pair.rejected)
        ], counts
    examples = [(reader.prompt(asked(row)), reply) for row in rows for reply in _taught(row)]
    made, counts = sft_rows(examples, reader.format, max_tokens=max_tokens)
    return [(row.ids.tolist(), row.weights.tolist()) for row in made], counts


def _taught(row: Any) -> list[str]:
    """The replies of a row that supervised learning would take: of a revision only the revised one."""
    return [text for name, text in sides(row).items() if name != "previous"]


def first_fault(ready: Sequence[tuple[list[int], list[float]]], reader: Reader) -> str | None:
    """What the checks of a first batch find wrong with any row, or None."""
    from cai_lightning.learning.guards import check_supervision

    is_prompt: Callable[[list[int]], bool] = reader.format.opens
    if reader.marker is not None:
        marker = reader.marker
        is_prompt = lambda ids: reader.format.tokenizer.decode(ids).endswith(marker)  # noqa: E731
    for number, (ids, weights) in enumerate(ready):
        try:
            check_supervision([(ids, weights)], bos=reader.format.begin, eos=reader.format.end, is_prompt=is_prompt)
        except ValueError as error:
            return str(error).replace("row 0 of the first batch", f"row {number}")
    return None


def _show_tokens(row: Any, console: Console, reader: Reader, max_tokens: int) -> None:
    ready, counts = learned([row], reader, max_tokens)
    names = [name for name in sides(row) if name != "previous"]
    for name, (ids, weights) in zip(names, ready, strict=False):
        learns = sum(map(bool, weights))
        console.print(_head(f"{row.id} {name}: {len(ids)} tokens, {learns} learned{_facts(row)}"), soft_wrap=True)
        console.print(coloured(reader.format.tokenizer, ids, weights, plain=not console.is_terminal), soft_wrap=True)
        console.print()
    if not ready:
        why = next(reason for reason, n in counts.items() if n)
        console.print(_head(f"{row.id} left out: {why}"), soft_wrap=True)
        console.print(_as_text(row), soft_wrap=True)


def _head(words: str) -> Text:
    return Text(f"── {words}", "bold dim")


def _as_text(row: Any) -> Text:
    prompt = asked(row)
    text = Text.assemble(_head(f"{row.id}{_facts(row)}"), prompt if isinstance(prompt, str) else to_text(prompt))
    for name, reply in sides(row).items():
        text.append(f"\n({name}) ", "bold")
        text.append(reply)
    return text.append("\n")


def _facts(row: Any) -> str:
    """What else a row says of itself, in brief."""
    found = {name: getattr(row, name, None) for name in ("p_a", "weight", "principle", "round", "finish")}
    brief = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in found.items()}
    return "".join(f"  {name}={value}" for name, value in brief.items() if value not in (None, ""))
