"""The stages that write tables of evaluations, on rows and models made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cai_lightning.constitution.styles import text
from cai_lightning.data.questions import Question
from cai_lightning.data.samples import Sampled, Trace
from cai_lightning.evaluation.asking import letters
from cai_lightning.experiment.compose import CONF, compose_config
from cai_lightning.models.causal import load_causal, save_causal
from cai_lightning.stages import baseline, multiple_choice, plain_text, surface
from cai_lightning.text.records import Answer, Label, Prompt, Revision, write_rows

TEXTS = ["\n\nHuman: how do you make tea ?\n\nAssistant: boil water .", "\n\nHuman: what is a rope ?"]


def settings(stage: str, *left_out: str) -> dict[str, Any]:
    """What conf/ says of a stage, without what the test gives."""
    config = compose_config([f"+stage/{stage}@stages.tested=default", "runtime.outputs=nowhere"]).stages.tested
    found = OmegaConf.to_container(config, resolve=False)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items() if key not in ("_target_", "version", *left_out)}


def folder(path: Path, rows: list[Any]) -> Path:
    path.mkdir(parents=True)
    write_rows(path, rows)
    return path


def table(path: Path, name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((path / name).read_text(encoding="utf-8"))
    return read


def answer(prompt: Prompt, text: str, sequences: int | None = None) -> Answer:
    return Answer(
        id=prompt.id,
        player="ppo",
        sequences=sequences,
        prompt=prompt,
        text=text,
        model="m",
        temperature=1.0,
        seed=0,
        prompt_tokens=1,
        tokens=1,
        finish="stop",
    )


def test_surface_measures_samples_players_and_chains(
    tmp_path: Path, make_prompt: Callable[[str], Prompt], chain: list[Revision]
) -> None:
    p, q = make_prompt("p"), make_prompt("q")
    rows = [answer(p, "Sorry, I cannot help."), answer(q, "word " * 30), answer(p, "word " * 30, sequences=64)]
    given = settings("surface", "samples", "traces", "answers", "revisions")
    surface.run(
        tmp_path,
        samples={"X": [Sampled(("a b", "a"), ("a b", "a"), (1.0, 0.0))]},
        traces={"T": [Trace(("a", "a b"))]},
        answers={"ppo": folder(tmp_path / "answers", rows)},
        revisions={"ours": folder(tmp_path / "revisions", chain)},
        **given,
    )
    found = table(tmp_path, "surface.json")
    assert found["answers"]["ppo"]["short_canned"]["value"] == 0.5
    assert found["answers"]["ppo@64"]["short"]["value"] == 0
    assert found["samples"]["X"]["score_words_correlation"] == pytest.approx(1)
    assert found["samples"]["X"]["score_sd"] == 0.5
    assert found["traces"]["T"]["similarity"] == [pytest.approx(2 / 3)]
    assert found["revisions"]["ours"]["similarity"] == [1, 1, 1]
    assert found["rules"]["short"] == given["short"]


def test_baseline_learns_words_and_counts_lengths(tmp_path: Path, make_label: Callable[..., Label]) -> None:
    prompts = [Prompt(id=str(i), dialogue=(), source="", kind="", cluster=f"c{i}") for i in range(12)]
    train = [make_label(f"t{i}", prompt=prompts[i], a="good thing", b="bad", p_a=1.0) for i in range(8)]
    test = [make_label(f"e{i}", prompt=prompts[i], a="bad", b="good old word", p_a=0.0) for i in range(12)]
    test.append(make_label("tie", p_a=0.5))
    given = settings("baseline", "train", "tests")
    baseline.run(
        tmp_path,
        train={"x": folder(tmp_path / "train", train)},
        tests={"harmless": folder(tmp_path / "test", test)},
        **given,
    )
    found = table(tmp_path, "baseline.json")
    assert found["bag_of_words"]["accuracy_harmless"] == {
        "value": 1.0,
        "low": pytest.approx(0.757, abs=1e-3),
        "high": 1,
        "n": 12,
    }
    assert found["shorter"]["accuracy_harmless"]["value"] == 0
    assert found["model"]["features"] == 4


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cai_lightning.data.tiny_model import bpe, causal

    path = tmp_path_factory.mktemp("tiny")
    tokenizer = bpe(iter(TEXTS * 4), 300)
    size = dict(hidden=16, layers=1, heads=2, kv_heads=2, context=256)
    ids = dict(end=tokenizer.eos_token_id, pad=tokenizer.pad_token_id, seed=0)
    save_causal(causal("llama", len(tokenizer), **size, **ids), tokenizer, path, dtype="float32")
    return path


def test_plain_text_compares_models_document_by_document(tmp_path: Path, tiny: Path) -> None:
    model, tokenizer = load_causal(tiny, dtype="float32")
    model.get_output_embeddings().weight.data *= 3
    save_causal(model, tokenizer, tmp_path / "other", dtype="float32")
    given = settings("plain_text", "models", "against", "texts") | {"resamples": 50, "length": 16, "stride": 8}
    plain_text.run(tmp_path, models={"sft": tmp_path / "other", "base": tiny}, against="base", texts=[TEXTS], **given)
    found = table(tmp_path, "plain_text.json")
    assert found["base"]["documents"] == 2 and found["base"]["difference"] is None
    change = found["sft"]["difference"]["nats_per_token"]["value"]
    assert change == pytest.approx(found["sft"]["nats_per_token"]["value"] - found["base"]["nats_per_token"]["value"])
    assert abs(change) > 1e-4
    assert found["base"]["bits_per_byte"]["value"] < 20
    with pytest.raises(ValueError, match="no text"):
        plain_text.run(tmp_path, models={"base": tiny}, against="base", texts=[[]], **given)


def test_multiple_choice_counts_examples_and_what_they_leave_out(tmp_path: Path, tiny: Path) -> None:
    rows = [
        Question(f"{i}", "", f"\n\nHuman: {i} ?", "Which ?", ("x", "y"), "\nThe answer is:", i % 2, f"c{i}")
        for i in range(8)
    ]
    given = settings("multiple_choice", "model", "questions", "few_shots", "leave_out", "shots", "ask")
    multiple_choice.run(
        tmp_path,
        model=tiny,
        questions={"all": rows, "some": rows},
        few_shots={"some": ["\n\nHuman: 3 ?\n\nWhich ? (A)"]},
        leave_out={"all": ["\n\nH: 1 ?\n\nA: no"]},
        shots=2,
        ask=partial(letters, style=text),
        **given,
    )
    found = table(tmp_path, "evals.json")
    assert {name: (figures["n"], figures["dropped"], figures["shots"]) for name, figures in found.items()} == {
        "all": (5, 3, 2),
        "some": (5, 3, 3),
    }
    assert 0 <= found["all"]["accuracy"] <= 1 and set(found["all"]["classes"]) == {"x", "y"}


def test_every_way_of_asking_in_conf_can_be_called(tmp_path: Path, tiny: Path) -> None:
    ask = OmegaConf.to_container(
        OmegaConf.load(CONF / "stage" / "multiple_choice" / "reasoned.yaml").ask, resolve=False
    )
    assert isinstance(ask, dict)
    from cai_lightning.evaluation.asking import reasoned

    chosen = {str(key): value for key, value in ask.items() if key != "_target_"} | {"seed": 0, "max_new_tokens": 4}
    row = Question("x", "", "\n\nHuman: q ?", "Which ?", ("x", "y", "z"), "\nThe answer is:", 1, "c")
    given = settings("multiple_choice", "model", "questions", "few_shots", "leave_out", "shots", "ask")
    multiple_choice.run(
        tmp_path,
        model=tiny,
        questions={"all": [row]},
        few_shots={},
        leave_out={},
        shots=0,
        ask=partial(reasoned, style=text, **chosen),
        **given,
    )
    assert table(tmp_path, "evals.json")["all"]["n"] == 1
