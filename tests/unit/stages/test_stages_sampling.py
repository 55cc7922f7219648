"""What sampling stages say of prompts that were cut and replies that had not ended, and what they hold in memory."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from killed_stages import same_after_a_kill
from lightning.pytorch import Trainer
from omegaconf import OmegaConf

from cai_lightning import microworld
from cai_lightning.constitution.cleaning import cleaning
from cai_lightning.constitution.styles import text
from cai_lightning.data.unfinished import Unfinished, drop, keep, no_end
from cai_lightning.experiment.compose import CONF, compose_config
from cai_lightning.experiment.targets import construct
from cai_lightning.microworld.prompts import red_team
from cai_lightning.models.causal import load_causal
from cai_lightning.models.engine import CausalBackend
from cai_lightning.models.format import Format
from cai_lightning.stages import answers, label, pairs, plain_text, respond, revise, session, sft
from cai_lightning.text.dialogue import Message
from cai_lightning.text.records import (
    Answer,
    Comparison,
    Label,
    Prompt,
    Response,
    Revision,
    read_rows,
    to_line,
    write_rows,
)

MODEL = Path(microworld.__file__).parent / "weights" / "small"  # reads 512 tokens
LONG = (Message("human", " ".join(["sure"] * 500)), Message("assistant", "no"))
SHARED: dict[str, Any] = {"chunk": 2, "batch_size": 4, "dtype": "float32", "route": "packed", "seed": 0}
SAMPLED: dict[str, Any] = SHARED | {"max_new_tokens": 24, "stop": ["\n\nHuman:"]}


def folder(path: Path, rows: list[Any]) -> Path:
    path.mkdir(parents=True)
    write_rows(path, rows)
    return path


@pytest.fixture
def prompts() -> list[Prompt]:
    """Five prompts; the last but one begins with more than the model reads."""
    rows = red_team(split="tune", count=5, seed=0)
    long = Prompt(id="long", dialogue=(*LONG, *rows[3].dialogue), source="s", kind="red_team", cluster="c")
    return [*rows[:3], long, rows[4]]


def counts(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "counts.json").read_text())
    return found


def test_respond_counts_what_was_cut_and_how_replies_ended(tmp_path: Path, prompts: list[Prompt]) -> None:
    given = folder(tmp_path / "prompts", [prompts[3], *prompts])

    def run(out: Path) -> None:
        respond.run(out, policy=MODEL, prompts=given, temperature=1.0, **SAMPLED)

    same_after_a_kill(run, tmp_path / "whole", 2)
    rows = read_rows(tmp_path / "whole", Response)
    assert [row.cut for row in rows] == [True, False, False, False, True, False]
    length = sum(row.finish == "length" for row in rows)
    assert 0 < length < 6
    assert counts(tmp_path / "whole") == {"rows": 6, "cut": 2, "finish": {"stop": 6 - length, "length": length}}


@pytest.fixture
def asked(tmp_path: Path, prompts: list[Prompt]) -> Path:
    return folder(tmp_path / "prompts", prompts)


def compared(out: Path, asked: Path, unfinished: Unfinished) -> list[Comparison]:
    out.mkdir(exist_ok=True)
    pairs.run(out, policy=MODEL, prompts=asked, temperatures=(1.0, 2.0), unfinished=unfinished, **SAMPLED)
    assert sorted(path.name for path in out.iterdir()) == ["counts.json", "rows.jsonl"]
    return read_rows(out, Comparison)


def test_pairs_of_cut_replies_are_kept_marked_or_left_out(tmp_path: Path, asked: Path) -> None:
    kept, marked, finished = (compared(tmp_path / p.__name__, asked, p) for p in (keep, no_end, drop))
    assert all(row.ended == (True, True) for row in kept)
    assert [(row.id, row.a, row.b) for row in marked] == [(row.id, row.a, row.b) for row in kept]
    assert finished == [row for row in marked if row.ended == (True, True)] and len(finished) < len(kept) == 5
    found = counts(tmp_path / "no_end")
    assert found["rows"] == 5 and found["cut"] == 2 and sum(found["finish"].values()) == 10
    assert found["finish"]["length"] == sum(not end for row in marked for end in row.ended)
    assert found["no_end"] == 5 - len(finished) and found["dropped"] == {"equal": 0, "unfinished": 0}
    assert counts(tmp_path / "drop")["dropped"] == {"equal": 0, "unfinished": 5 - len(finished)}
    # what a reply is says where it ended: nothing but an end token ends a reply of fewer than 24 tokens
    format = Format(load_causal(MODEL, dtype="float32")[1])
    for row in marked:
        tokens = [len(ids) for ids in format.reply_ids([row.a, row.b])]
        assert row.ended == tuple(size <= 24 for size in tokens)


def test_pairs_of_a_killed_run_are_those_of_a_whole_one(
    tmp_path: Path, asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three chunks the second is not finished: two are asked for again, the first is not."""
    compared(tmp_path / "whole", asked, drop)
    ask, calls = CausalBackend.generate, []

    def killed(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return ask(*given)

    monkeypatch.setattr(CausalBackend, "generate", killed)
    with pytest.raises(KeyboardInterrupt):
        compared(tmp_path / "killed", asked, drop)
    assert (tmp_path / "killed" / "samples" / "chunks" / "000000.jsonl").exists()
    compared(tmp_path / "killed", asked, drop)
    assert len(calls) == 2 + 2
    for name in ("rows.jsonl", "counts.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    (tmp_path / "killed" / "samples").mkdir()  # killed while it removed them
    compared(tmp_path / "killed", asked, drop)


def test_each_sample_of_a_pair_has_its_own_temperature(tmp_path: Path, asked: Path) -> None:
    """The greedy sample is the same beside any other."""
    found = []
    for number, temperatures in enumerate([(0.0, 2.0), (0.0, 4.0), (2.0, 0.0)]):
        out = tmp_path / str(number)
        out.mkdir()
        pairs.run(out, policy=MODEL, prompts=asked, temperatures=temperatures, unfinished=keep, **SAMPLED)
        found.append(read_rows(out, Comparison))
    greedy, other, turned = ({row.id: row for row in rows} for rows in found)
    # pairs of equal replies are left out
    assert len(greedy) >= 4 and greedy.keys() == other.keys() == turned.keys()
    assert all(row.a == other[id].a == turned[id].b for id, row in greedy.items())
    assert any(row.b != other[id].b for id, row in greedy.items())


def test_equal_replies_are_counted(tmp_path: Path, asked: Path) -> None:
    (tmp_path / "out").mkdir()
    given = SAMPLED | {"max_new_tokens": 4}
    pairs.run(tmp_path / "out", policy=MODEL, prompts=asked, temperatures=(0.0, 0.0), unfinished=drop, **given)
    assert read_rows(tmp_path / "out", Comparison) == []
    assert counts(tmp_path / "out")["dropped"] == {"equal": 5, "unfinished": 0}


def group(path: str) -> Any:
    return construct(OmegaConf.to_container(OmegaConf.load(CONF / f"{path}.yaml")))


def test_revise_counts_chains_whose_prompts_were_cut(tmp_path: Path, prompts: list[Prompt]) -> None:
    sampled: dict[str, Any] = {"model": "m", "temperature": 1.0, "seed": 0, "prompt_tokens": 1, "tokens": 1}
    replies = [Response(id=p.id, prompt=p, text="sure . get the rope", finish="stop", **sampled) for p in prompts[2:]]
    given = folder(tmp_path / "responses", replies)
    for critique in (True, False):

        def run(out: Path, critique: bool = critique) -> None:
            revise.run(
                out,
                reviser=MODEL,
                responses=given,
                constitution=group("constitution/microworld"),
                style=text,
                cleaning=cleaning(critique=[], revision=[]),
                rounds=2,
                critique=critique,
                replacement=True,
                temperature=0.7,
                critique_tokens=16,
                revision_tokens=24,
                **SHARED,
            )

        whole = tmp_path / str(critique) / "whole"
        whole.parent.mkdir()
        same_after_a_kill(run, whole, 4)
        rows = read_rows(whole, Revision)
        assert [row.cut for row in rows] == [row.prompt.id == "long" for row in rows] and len(rows) == 6
        found = counts(whole)
        assert (found["rows"], found["cut"], sum(found["finish"].values())) == (6, 2, 6)


@pytest.mark.parametrize("samples", [0, 2])
def test_label_counts_cut_questions_and_hands_on_which_replies_ended(
    tmp_path: Path, prompts: list[Prompt], samples: int
) -> None:
    given: dict[str, Any] = {"source": "s", "model": "m", "temperature": 1.0, "seed": 0, "a": "sure .", "b": "no ."}
    made = [Comparison(id=p.id, prompt=p, **given, ended=(True, p.id != "long")) for p in prompts]
    comparisons = folder(tmp_path / "comparisons", made)

    def run(out: Path) -> None:
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
            thought_tokens=8,
            temperature=1.0,
            clamp=None,
            hard=False,
            weight=1.0,
            **SHARED,
        )

    same_after_a_kill(run, tmp_path / "whole", 2)
    rows = read_rows(tmp_path / "whole", Label)
    assert [row.cut for row in rows] == [row.id == "long" for row in rows]
    assert [row.ended for row in rows] == [(True, row.id != "long") for row in rows]
    assert counts(tmp_path / "whole")["cut"] == 1


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many earlier models were alive whenever one was loaded; without the collector, but for what stages call."""
    alive: list[int] = []
    models: list[weakref.ref[Any]] = []

    def load(path: Path, **given: Any) -> Any:
        alive.append(sum(model() is not None for model in models))
        made = load_causal(path, **given)
        models.append(weakref.ref(made[0]))
        return made

    monkeypatch.setattr("cai_lightning.models.causal.load_causal", load)
    gc.collect()
    gc.disable()
    yield alive
    gc.enable()


def published(tmp_path: Path) -> Path:
    """A policy with snapshots after 8 and 16 samples."""
    policy = tmp_path / "policy"
    shutil.copytree(MODEL, policy)
    for seen in (8, 16):
        shutil.copytree(MODEL, policy / "snapshots" / f"{seen:08d}")
    return policy


def answered(out: Path, policy: Path, asked: Path) -> Path:
    out.mkdir(exist_ok=True)
    return answers.run(out, player="ppo", policy=policy, prompts=[asked], snapshots=True, temperature=1.0, **SAMPLED)


def test_one_player_is_in_memory_at_a_time(tmp_path: Path, asked: Path, loaded: list[int]) -> None:
    out = answered(tmp_path / "out", published(tmp_path), asked)
    assert loaded == [0, 0, 0]
    rows = read_rows(out, Answer)
    assert Counter(row.sequences for row in rows) == {8: 5, 16: 5, None: 5}
    length = sum(row.finish == "length" for row in rows)
    assert counts(out) == {"rows": 15, "cut": 3, "finish": {"stop": 15 - length, "length": length}}
    assert [row.id for row in rows if row.cut] == ["long"] * 3


def test_a_player_whose_answers_are_there_is_not_loaded_again(
    tmp_path: Path, asked: Path, loaded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three chunks each of three players, and a kill in the second chunk of the second."""
    policy = published(tmp_path)
    whole = answered(tmp_path / "whole", policy, asked)
    loaded.clear()
    ask, calls = CausalBackend.generate, []

    def killed(self: CausalBackend, *given: Any) -> Any:
        calls.append(given)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return ask(self, *given)

    monkeypatch.setattr(CausalBackend, "generate", killed)
    with pytest.raises(KeyboardInterrupt):
        answered(tmp_path / "killed", policy, asked)
    answered(tmp_path / "killed", policy, asked)
    assert (len(loaded), len(calls)) == (2 + 2, 5 + 5)
    for name in ("rows.jsonl", "counts.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (whole / name).read_bytes()


def test_one_model_is_in_memory_while_texts_are_read(tmp_path: Path, loaded: list[int]) -> None:
    config = compose_config(["+stage/plain_text@stages.tested=default", "runtime.outputs=nowhere"]).stages.tested
    given = OmegaConf.to_container(config, resolve=False)
    assert isinstance(given, dict)
    shape: dict[str, Any] = {"length": 16, "stride": 8, "resamples": 20}
    kept: dict[str, Any] = {str(key): given[key] for key in ("seed", "precision", "dtype", "batch_size")} | shape
    models = {"base": MODEL, "sft": MODEL}
    for name, changes in (("a", {}), ("b", {"dtype": "bfloat16"})):
        (tmp_path / name).mkdir()
        texts = [["sure . get the rope"]]
        plain_text.run(tmp_path / name, models=models, against="base", texts=texts, **kept | changes)
    assert loaded == [0, 0, 0, 0]
    losses = [json.loads((tmp_path / name / "plain_text.json").read_text())["base"] for name in ("a", "b")]
    whole, rounded = (loss["nats_per_token"]["value"] for loss in losses)
    assert whole != rounded and whole == pytest.approx(rounded, abs=0.2)


def learned(tmp_path: Path, prompts: list[Prompt], unfinished: Unfinished) -> dict[str, Any]:
    config = compose_config(["+stage/sft@stages.tested=default", "runtime.outputs=nowhere", "replicate=0"])
    config.stages.tested.policy = config.stages.tested.revisions = config.stages.tested.responses = None
    nodes = OmegaConf.to_container(config.stages.tested, resolve=True)
    assert isinstance(nodes, dict)
    given = construct({key: value for key, value in nodes.items() if key not in ("_target_", "version")})
    sampled: dict[str, Any] = {"model": "m", "temperature": 1.0, "seed": 0, "prompt_tokens": 1, "tokens": 1}
    finishes = ("stop", "length", "stop")
    rows = [
        Response(id=p.id, prompt=p, text="sure . get the rope", finish=f, **sampled)
        for p, f in zip(prompts[:3], finishes, strict=True)
    ]
    out = tmp_path / unfinished.__name__  # type: ignore[attr-defined]
    out.mkdir()
    inputs = {
        "policy": MODEL,
        "revisions": folder(tmp_path / f"{out.name}-none", []),
        "responses": folder(tmp_path / f"{out.name}-some", rows),
    }
    sft.run(out, **given | inputs | {"unfinished": unfinished})
    return counts(out)


@pytest.mark.parametrize(("unfinished", "kept", "left"), [(keep, 3, 0), (no_end, 3, 0), (drop, 2, 1)])
def test_sft_counts_replies_that_had_not_ended(
    tmp_path: Path, prompts: list[Prompt], unfinished: Unfinished, kept: int, left: int
) -> None:
    found = learned(tmp_path, prompts, unfinished)
    assert found["finish"] == {"stop": 2, "length": 1}
    assert (found["kept"], found["unfinished"], found["no_end"]) == (kept, left, unfinished is no_end)


def test_what_an_earlier_stage_held_is_given_back(tmp_path: Path, prompts: list[Prompt], loaded: list[int]) -> None:
    """Without a collection a fit's trainer, module and model hold each other."""
    learned(tmp_path, prompts, keep)
    learned(tmp_path, prompts, drop)
    assert loaded == [0, 0]
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    found = weakref.ref(trainer)
    del trainer
    assert found() is not None
    session.prepare()
    assert found() is None


def test_lines_of_rows_that_were_not_cut_are_those_of_before(prompts: list[Prompt]) -> None:
    sampled: dict[str, Any] = {"model": "m", "temperature": 1.0, "seed": 0, "prompt_tokens": 1, "tokens": 1}
    row = Response(id="x", prompt=prompts[0], text="no", finish="stop", **sampled)
    assert set(json.loads(to_line(row))) == {"id", "prompt", "text", "finish", *sampled}
