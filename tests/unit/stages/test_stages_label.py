"""The stages that ask the micro-world's own model, on a handful of rows."""

import json
from pathlib import Path
from typing import Any

import pytest
from killed_stages import same_after_a_kill
from omegaconf import OmegaConf

from cai_lightning import microworld
from cai_lightning.constitution.cleaning import cleaning
from cai_lightning.constitution.styles import text
from cai_lightning.experiment.compose import CONF
from cai_lightning.experiment.targets import construct
from cai_lightning.microworld.prompts import red_team
from cai_lightning.stages import label, revise
from cai_lightning.text.records import Comparison, Label, Response, Revision, read_rows, write_rows

MODEL = Path(microworld.__file__).parent / "weights" / "small"
REFUSAL = "sorry , i can not answer that ."
OFTEN = {"name": "first", "pattern": r"\A\w+ ", "replacement": ""}


def group(path: str) -> Any:
    return construct(OmegaConf.to_container(OmegaConf.load(CONF / f"{path}.yaml")))


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, Path]:
    prompts = red_team(split="tune", count=5, seed=0)
    given: dict[str, Any] = {"model": "m", "temperature": 1.0, "seed": 0}
    replies = [f"sure . first , get the gun . {prompt.dialogue[0].content}" for prompt in prompts]
    made: dict[str, list[Any]] = {
        "comparisons": [
            Comparison(id=prompt.id, prompt=prompt, a=reply, b=REFUSAL, source="s", **given)
            for prompt, reply in zip(prompts, replies, strict=True)
        ],
        "responses": [
            Response(id=prompt.id, prompt=prompt, text=reply, prompt_tokens=1, tokens=1, finish="stop", **given)
            for prompt, reply in zip(prompts, replies, strict=True)
        ],
    }
    for name, found in made.items():
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name, found)
    return {name: tmp_path / name for name in made}


def labelled(out: Path, comparisons: Path, samples: int) -> list[Label]:
    label.run(
        out,
        feedback_model=MODEL,
        comparisons=comparisons,
        constitution=group("constitution/microworld"),
        style=text,
        order=group("order/both"),
        pick=group("pick/drawn"),
        few_shot_draw=group("few_shot_draw/per_run"),
        reasoning_samples=samples,
        thought_tokens=24,
        temperature=1.0,
        clamp=None,
        hard=False,
        weight=1.0,
        chunk=2,
        batch_size=4,
        dtype="float32",
        route="packed",
        seed=0,
    )
    return read_rows(out, Label)


def test_thoughts_lead_to_letters_in_a_killed_run_too(tmp_path: Path, rows: dict[str, Path]) -> None:
    whole = tmp_path / "whole"
    same_after_a_kill(lambda out: labelled(out, rows["comparisons"], 2), whole, 2)
    found = read_rows(whole, Label)
    assert all(len(row.thoughts) == len(row.logits) == 4 for row in found)
    thoughts = [thought for row in found for thought in row.thoughts]
    for begun in ("(A)", " , (B)"):  # not all of them: the tiny model samples 20 of them at T = 1, and .8 is usual
        assert sum(begun in thought for thought in thoughts) > 0.6 * len(thoughts)
    assert all(row.letter_mass is not None and 0.9 < row.letter_mass <= 1.0001 for row in found)
    counts = json.loads((whole / "counts.json").read_text())
    assert counts["letters"] == {" (A)": [" (A)"], " (B)": [" (B)"]}


def test_without_thoughts_the_letters_are_answered_at_once(tmp_path: Path, rows: dict[str, Path]) -> None:
    (tmp_path / "out").mkdir()
    found = labelled(tmp_path / "out", rows["comparisons"], 0)
    assert all(row.thoughts == () and row.logits == (row.logit_ab, row.logit_ba) for row in found)


def test_what_was_cleaned_is_counted_by_rule_in_a_killed_run_too(tmp_path: Path, rows: dict[str, Path]) -> None:
    def revised(out: Path) -> None:
        revise.run(
            out,
            reviser=MODEL,
            responses=rows["responses"],
            constitution=group("constitution/microworld"),
            style=text,
            cleaning=cleaning(critique=[], revision=[OFTEN]),
            rounds=1,
            critique=True,
            replacement=True,
            temperature=0.7,
            critique_tokens=16,
            revision_tokens=24,
            chunk=2,
            batch_size=4,
            dtype="float32",
            route="packed",
            seed=0,
        )

    whole = tmp_path / "whole"
    same_after_a_kill(revised, whole, 2)
    found = read_rows(whole, Revision)
    assert all(row.raw is not None and row.raw.endswith(row.text) and row.critique_raw is None for row in found)
    counts = json.loads((whole / "counts.json").read_text())
    assert (counts["rows"], counts["cut"], counts["cleaned"]) == (5, 0, {"revision/first": 5})
