"""Prompts from files: those of the paper's released samples, and plain JSON Lines of one's own.

hh-rlhf has its reader in `hh`, multiple-choice questions in `questions`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cai_lightning.data.reading import Read, distinct, json_lines, text_field, window
from cai_lightning.text.artifacts import Source
from cai_lightning.text.dialogue import MARKERS, Dialogue, from_text, human
from cai_lightning.text.records import Prompt, from_object, prompt_id


def resolve(root: Path, name: str) -> Path:
    """`root/name`, or the same with ".shared" before the suffix, as subsets of a file are named.

    Raises ValueError when neither exists.
    """
    stem, dot, suffix = name.partition(".")
    candidates = [Path(root) / name, Path(root) / f"{stem}.shared{dot}{suffix}"]
    for path in candidates:
        if path.exists():
            return path
    raise ValueError(f"{candidates[0]}: no such file, nor {candidates[1].name}")


def sample_prompts(*, folder: Source, kind: str, limit: int | None) -> Read[Prompt]:
    """The distinct `rl_prompt`s of all JSONL files in a folder, files by name, rows in file order.

    The released files hold the same prompts in different orders; what they repeat counts as `duplicate`.
    """
    files = sorted(Path(folder).glob("*.jsonl"))
    if not files:
        raise ValueError(f"{folder}: no *.jsonl file in it")
    dropped: Counter[str] = Counter()
    rows = (
        _prompt(text_field(row, "rl_prompt", place), "anthropic-cai", kind, place)
        for path in files
        for place, row in json_lines(path)
    )
    return Read(window(distinct(rows, dropped), 0, limit), dict(dropped))


def jsonl_prompts(*, path: Source, kind: str, limit: int | None) -> Read[Prompt]:
    """The distinct prompts of a file of {"prompt": text} or of our own Prompt rows, in file order.

    A text that starts with a Human or Assistant marker is a dialogue, any other is one human turn; `kind` goes to
    both, a Prompt row keeps its own. Raises ValueError with file:line and cause.
    """
    dropped: Counter[str] = Counter()

    def rows() -> Iterator[Prompt]:
        for place, row in json_lines(path):
            if "dialogue" in row:
                yield _record(row, place)
            else:
                yield _prompt(text_field(row, "prompt", place), Path(path).name, kind, place)

    return Read(window(distinct(rows(), dropped), 0, limit), dict(dropped))


def _prompt(text: str, source: str, kind: str, place: str) -> Prompt:
    dialogue = from_text(text) if text.startswith(tuple(MARKERS.values())) else human(text)
    _ends_with_human(dialogue, place)
    id = prompt_id(dialogue)
    return Prompt(id=id, dialogue=dialogue, source=source, kind=kind, cluster=id)


def _record(row: dict[str, Any], place: str) -> Prompt:
    try:
        prompt = from_object(row, Prompt)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place}: not a Prompt: {error}") from None
    for key in ("id", "source", "kind", "cluster"):
        text_field(row, key, place)
    for number, turn in enumerate(row["dialogue"]):
        text_field(turn, "content", place)
        roles = ["system"] * (number == 0) + list(MARKERS)
        if turn["role"] not in roles:
            raise ValueError(
                f"{place}: turn {number + 1} has the role {turn['role']!r}; it must be {' or '.join(roles)}"
            )
    _ends_with_human(prompt.dialogue, place)
    return prompt


def _ends_with_human(dialogue: Dialogue, place: str) -> None:
    if not dialogue or dialogue[-1].role != "human" or not dialogue[-1].content.strip():
        raise ValueError(f"{place}: the prompt must end with a human turn that says something")
