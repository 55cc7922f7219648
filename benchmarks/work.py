"""Makes the work: two random models, their tokenizers, and the rows of hh-rlhf as text and as ids.

    python -m benchmarks.work DATA OUT

DATA holds hh-rlhf/harmless-base.{train,test}.jsonl.gz and anthropic_cai/prompts/*.json. Everything is a function of
these files and of this one, and is made again only where one of them has changed.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.files import LETTERS, MAX_TOKENS, model, reward_model

SIZES: dict[str, dict[str, int]] = {
    "s3m": {"vocab_size": 2048, "hidden_size": 192, "layers": 6, "heads": 6, "intermediate_size": 512},
    "m25m": {"vocab_size": 8192, "hidden_size": 448, "layers": 9, "heads": 7, "intermediate_size": 1216},
}
POSITIONS = 4096
PAIRS = 2400  # usable ones that are kept at most
CRITIQUES, CRITIQUE_TOKENS = 128, (12, 48)
QUESTIONS, PRINCIPLES = 64, 16
LONGEST_TAIL = 400  # tokens of a dialogue that is critiqued or asked about
STAMP = "work.json"


def make(data: Path, out: Path) -> None:
    """Writes the work into `out` unless it is there. Raises ValueError where a file of the data is missing."""
    stamp = {"made_from": _digest([Path(__file__), Path(__file__).with_name("files.py"), *_sources(data)])}
    if (out / STAMP).exists() and json.loads((out / STAMP).read_text(encoding="utf-8")) == stamp:
        return
    out.mkdir(parents=True, exist_ok=True)
    labels = _labels(data)
    for size, shape in SIZES.items():
        _models(labels, out, size, shape)
        _write(out / f"pairs-{size}.jsonl", _pairs(labels, model(out, size)))
        _write(out / f"critiques-{size}.jsonl", _critiques(labels, data, model(out, size)))
        _write(out / f"questions-{size}.jsonl", _questions(labels, data, model(out, size)))
    (out / STAMP).write_text(json.dumps(stamp) + "\n", encoding="utf-8")


def _sources(data: Path) -> list[Path]:
    names = ["hh-rlhf/harmless-base.train.jsonl.gz", "hh-rlhf/harmless-base.test.jsonl.gz"]
    found = [*(data / name for name in names), *sorted((data / "anthropic_cai" / "prompts").glob("*.json"))]
    if missing := [path for path in found if not path.is_file()]:
        raise ValueError(f"{missing[0]}: no such file; --data must hold the files that benchmarks/README.md lists")
    return found


def _digest(paths: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()


def _labels(data: Path) -> list[Any]:
    """The comparisons as the package reads them, in an order of their own."""
    from cai_lightning.data.hh import hh_comparisons

    found = []
    for path in _sources(data)[:2]:
        read = hh_comparisons(path=path, kind="red_team", skip=0, limit=PAIRS, weight=1.0, min_reply_chars=1)
        found += read.rows
    random.Random(0).shuffle(found)
    return found[:PAIRS]


def _models(labels: list[Any], out: Path, size: str, shape: dict[str, int]) -> None:
    """A causal model with its tokenizer, and a reward model on it whose head is random too."""
    from cai_lightning.models.adapters import full
    from cai_lightning.models.causal import new_llama, save_causal
    from cai_lightning.models.reward import reward_from_causal, save_reward
    from cai_lightning.models.tokenizers import bpe
    from cai_lightning.text.dialogue import prompt_text

    texts = (text for row in labels for text in (prompt_text(row.prompt.dialogue), f" {row.a}", f" {row.b}"))
    tokenizer = bpe(texts, shape["vocab_size"])
    llama = new_llama(
        **shape,
        max_positions=POSITIONS,
        tie=True,
        pad_id=tokenizer.pad_token_id,
        eos_id=tokenizer.eos_token_id,
        seed=0,
    )
    folder = model(out, size)
    save_causal(llama, tokenizer, folder, dtype="float32")
    reward, _ = reward_from_causal(
        folder, adapter=full, marker=None, mean=False, gain=1.0, head_std=0.05, dtype="float32", seed=0
    )
    reward_model(out, size).mkdir(parents=True, exist_ok=True)
    save_reward(reward, tokenizer, reward_model(out, size), parent=folder, dtype="float32")


def _pairs(labels: list[Any], folder: Path) -> Iterable[dict[str, Any]]:
    """The comparisons that fit. Raises ValueError where text and ids do not say the same."""
    from cai_lightning.models.causal import load_tokenizer
    from cai_lightning.models.format import Format
    from cai_lightning.text.dialogue import prompt_text, reply_text

    tokenizer = load_tokenizer(folder)
    format = Format(tokenizer)
    prompts = format.prompt_ids([row.prompt.dialogue for row in labels])
    sides = format.reply_ids([side for row in labels for side in (row.a, row.b)])
    for row, asked, a, b in zip(labels, prompts, sides[::2], sides[1::2], strict=True):
        texts = (prompt_text(row.prompt.dialogue), reply_text(row.a), reply_text(row.b))
        if [tokenizer.decode(ids) for ids in (asked, a[:-1], b[:-1])] != list(texts):
            raise ValueError(f"label {row.id}: the tokenizer does not give its text back")
        if len(asked) + max(len(a), len(b)) <= MAX_TOKENS:
            yield {"label": asdict(row), "texts": texts, "ids": (asked, a, b)}


def _constitution(data: Path) -> Any:
    from cai_lightning.experiment.compose import compose_config
    from cai_lightning.experiment.pipeline import with_sources
    from cai_lightning.experiment.recipe import raw_value
    from cai_lightning.experiment.targets import construct

    config = compose_config(["constitution=paper_files", "data=hh_files", f"data.root={data}"])
    return construct(with_sources(raw_value(config, "constitution")))


def _critiques(labels: list[Any], data: Path, folder: Path) -> Iterable[dict[str, Any]]:
    """What the revising stage asks first, about chosen replies that are not too long."""
    from cai_lightning.constitution.critique import critique_steps
    from cai_lightning.constitution.principles import draw
    from cai_lightning.constitution.styles import solved, text
    from cai_lightning.models.causal import load_tokenizer

    paper, tokenizer, rng = _constitution(data), load_tokenizer(folder), random.Random(5)
    examples = tuple(map(solved, paper.critique_few_shots))
    count = 0
    for row in labels:
        principle = draw(paper.revising, seed=0, row=row.id, round=1, replacement=True)
        steps = critique_steps(row.prompt.dialogue, row.a, principle)
        if count < CRITIQUES and len(tokenizer(text((), steps)).input_ids) < LONGEST_TAIL:
            whole = text(examples, steps)
            yield {"text": whole, "ids": tokenizer(whole).input_ids, "limit": rng.randint(*CRITIQUE_TOKENS)}
            count += 1


def _questions(labels: list[Any], data: Path, folder: Path) -> Iterable[dict[str, Any]]:
    """What the labelling stage asks under each principle, up to the bracket before the letter."""
    from cai_lightning.constitution.questions import asking, averaged, fixed, per_run
    from cai_lightning.constitution.styles import text
    from cai_lightning.models.causal import load_tokenizer
    from cai_lightning.text.dialogue import to_text

    tokenizer = load_tokenizer(folder)
    asks = asking(
        _constitution(data),
        reasoning=False,
        style=text,
        order=fixed,
        pick=partial(averaged, count=PRINCIPLES),
        few_shot_draw=per_run,
        seed=0,
    )
    letters = [tokenizer(letter).input_ids[0] for letter in LETTERS]
    count = 0
    for row in labels:
        said = to_text(row.prompt.dialogue) + row.a + row.b
        if count < QUESTIONS and len(tokenizer(said).input_ids) < LONGEST_TAIL:
            texts = [f"{question.prompt} (" for question in asks.questions(row)]
            yield {"letters": letters, "asked": [{"text": one, "ids": tokenizer(one).input_ids} for one in texts]}
            count += 1


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
