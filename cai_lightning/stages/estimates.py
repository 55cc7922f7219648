"""What a stage will cost, guessed from its recipe before anything is built; not a number (nan) where unknown."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cai_lightning.stages import memory
from cai_lightning.stages.shapes import Shape, of_folder

PROMPT_TOKENS = 32  # of a prompt of the micro-world, until it is written
DIALOGUE_TOKENS = 160  # of a prompt from a file: hh-rlhf's have 132 on average
REQUEST_TOKENS = 24  # of a principle's request
CHARACTERS = 4  # a token of English


class Estimate(NamedTuple):
    """Rows of the result (null for models and tables), texts that models sample, score or learn, and their tokens.

    For the stages that read it: the tokens of a row's texts, the distinct prompts behind the rows, the players that a
    policy is, its snapshots included, and the shape of the model that is made or asked. Tokens are upper ends: replies
    are as long as they may be. `memory` is in bytes at the peak, of one process.
    """

    rows: float | None
    calls: float = 0.0
    tokens: float = 0.0
    length: float = math.nan
    prompts: float = math.nan
    players: float = 1.0
    memory: float = 0.0
    shape: Shape | None = None

    def finished(self, folder: Path, rows: float | None) -> Estimate:
        """The estimate with what a finished artifact shows: its number of rows and the shape of its model."""
        shape = None if self.shape is None else of_folder(folder)
        return self._replace(rows=self.rows if rows is None else rows, shape=shape or self.shape)


def from_readers(readers: Iterable[Any], texts: int) -> Estimate:
    """The rows that readers will give, each of `texts` texts of a prompt's length: what each reader is limited to."""
    readers = list(readers)
    rows = sum(_limit(reader) for reader in readers)
    prompt = PROMPT_TOKENS if ".microworld." in str(readers) else DIALOGUE_TOKENS
    return Estimate(rows, length=texts * prompt, prompts=rows)


def shown(constitution: Any, few_shots: str) -> float:
    """The tokens of a constitution's solved examples, `few_shots` being where they stand: texts, or a file of them."""
    given = constitution.get(few_shots) if isinstance(constitution, Mapping) else None
    if isinstance(given, str) and Path(given).is_file():
        return Path(given).stat().st_size / CHARACTERS
    return len(str(given)) / CHARACTERS if given else 0.0


def request(constitution: Any) -> float:
    """The tokens of one request of a constitution: the mean over its wordings, where they stand in the config."""
    principles = constitution.get("principles") if isinstance(constitution, Mapping) else None
    words = [len(text) for one in principles or [] for name, text in one.items() if name != "id" and text]
    return sum(words) / len(words) / CHARACTERS if words else REQUEST_TOKENS


def comparing(constitution: Any) -> float:
    """How many principles of a constitution compare: those of the config, or the entries of the file of them."""
    if not isinstance(constitution, Mapping):
        return math.nan
    if principles := constitution.get("principles"):
        return sum(bool(one.get("comparison")) for one in principles)
    file = Path(str(constitution.get("comparison_principles", "")))
    return len(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else math.nan


def taken(
    labels: Mapping[str, Any], limits: Mapping[str, int | None], part: Mapping[str, int] | None = None
) -> tuple[float, float]:
    """The labels that a mixture takes and the tokens of their texts."""
    parts = 1 if part is None else part.get("of", 1)
    counts = {name: _least(found.rows / parts, limits.get(name)) for name, found in labels.items()}
    return sum(counts.values()), sum(counts[name] * labels[name].length for name in labels)


def sampled(recipe: Mapping[str, Any], model: Any, *, rows: float, prompt: float, new: float) -> float:
    """Bytes at the peak of a stage that samples `rows` replies in the recipe's batches and chunks."""
    together = min(recipe["batch_size"], recipe.get("chunk", math.inf), rows)
    return memory.sampling(model.shape, recipe["dtype"], rows=together, prompt=prompt, new=new)


def scored(recipe: Mapping[str, Any], model: Any, *, rows: float, length: float) -> float:
    """Bytes at the peak of a stage that asks for one token's log-probabilities after each of `rows` texts."""
    together = min(recipe["batch_size"], rows)
    return memory.scoring(model.shape, recipe["dtype"], tokens=together * length, asked=together)


def learned(recipe: Mapping[str, Any], model: Any, *, head: bool) -> float:
    """Bytes at the peak of a stage that trains `model` on batches of `data.batch_tokens` tokens.

    `head`: it learns log-probabilities, so there are logits.
    """
    return memory.training(model.shape, recipe, recipe["data"]["batch_tokens"], head=head)


def _limit(reader: Any) -> float:
    """The first `count` or `limit` in a reader or in what it reads, times the `templates` that wrap each row, or the
    `pairs_per_prompt` that are made of it.
    """
    if not isinstance(reader, Mapping):
        return math.nan
    own = reader.get("count", reader.get("limit"))
    if isinstance(own, int):
        return own
    inner = (_limit(value) for value in reader.values())
    copies = len(reader.get("templates", [None])) * (reader.get("pairs_per_prompt", 1) or math.nan)
    return copies * next((limit for limit in inner if not math.isnan(limit)), math.nan)


def _least(rows: float, limit: int | None) -> float:
    return rows if limit is None or rows <= limit else limit
