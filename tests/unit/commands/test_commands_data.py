"""Rows are recognised, shown with their loss mask, and written so that other libraries read them."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands_store import ASKED, PROMPTS, REPLIES, make_label, make_prompt
from datasets import load_dataset

from cai_lightning.commands import data
from cai_lightning.commands.data_inspect import percentile
from cai_lightning.commands.source_rows import sides, source_rows
from cai_lightning.experiment.workspace import Workspace
from cai_lightning.text.records import Label, Prompt, Response, Revision, write_rows

ASK, SAY = {"role": "user", "content": "a ?"}, {"role": "assistant", "content": "b ."}
HF_CAI = ("init_prompt", "init_response", "critic_prompt", "critic_response", "revision_prompt", "revision_response")
FORMATS: dict[str, tuple[dict[str, Any], type[Any]]] = {
    "hh": ({"chosen": "\n\nHuman: a ?\n\nAssistant: b .", "rejected": "\n\nHuman: a ?\n\nAssistant: c ."}, Label),
    "trl": ({"prompt": [ASK], "chosen": [SAY], "rejected": [{**SAY, "content": "c ."}]}, Label),
    "soft": ({"prompt": "a ?", "chosen": "b .", "rejected": "c .", "p_chosen": 0.7}, Label),
    "implicit": ({"chosen": [ASK, SAY], "rejected": [ASK, {**SAY, "content": "c ."}]}, Label),
    "ranks": (
        {"context": [ASK], "completions": [{"rank": 1, "completion": [SAY]}, {"rank": 0, "completion": [SAY]}]},
        Label,
    ),
    "messages": ({"messages": [ASK, SAY]}, Response),
    "sharegpt": ({"conversations": [{"from": "human", "value": "a ?"}, {"from": "gpt", "value": "b ."}]}, Response),
    "alpaca": ({"instruction": "a ?", "input": "", "output": "b ."}, Response),
    "completion": ({"prompt": "a ?", "completion": "b ."}, Response),
    "hf_cai": (dict.fromkeys(HF_CAI, "words"), Revision),
    "prompts": ({"prompt": "a ?"}, Prompt),
    "goals": ({"goal": "a ?", "target": "b"}, Prompt),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_s_format_shows_in_its_columns(name: str, workspace: Workspace, tmp_path: Path) -> None:
    row, record = FORMATS[name]
    if name == "ranks":
        row["completions"][0]["completion"] = [{**SAY, "content": "c ."}]
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\nnot json\n")
    found = source_rows(workspace, str(tmp_path / "rows.jsonl"))
    assert [type(one) for one in found.rows] == [record]
    assert found.dropped == {"bad_row": 1} and "rows.jsonl:2" in found.skipped[0]
    if record is Label:
        assert sides(found.rows[0]) == {"chosen": "b .", "rejected": "c ."}
        assert found.rows[0].p_a == (0.7 if name == "soft" else 1.0)


def test_what_is_no_table_of_rows_is_one_line(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "odd.jsonl").write_text('{"x": 1, "y": 2}\n')
    with pytest.raises(ValueError, match="no known format has the columns x, y"):
        source_rows(workspace, str(tmp_path / "odd.jsonl"))
    for name in ("sft", str(tmp_path)):
        with pytest.raises(ValueError, match=r"holds no rows|no known format"):
            source_rows(workspace, name)


def test_percentiles_are_values_of_the_sample() -> None:
    values = [40, 10, 30, 20]
    assert [percentile(values, share) for share in (0, 5, 25, 26, 50, 75, 99, 100)] == [10, 10, 10, 20, 20, 30, 40, 40]


def inspected(arguments: list[str], workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> str:
    assert data.main(["inspect", *arguments], workspace) == 0
    return capsys.readouterr().out


def test_inspecting_shows_counts_lengths_and_rows(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    out = inspected(["labels", "--rows", "2"], workspace, capsys)
    assert "labels: 3 rows, Label rows" in out
    assert "3 prompts; by source / kind: samples / red_team: 3" in out
    assert "left out by the reader: duplicate: 4" in out
    assert out.count("\n\nHuman: ") == 2
    words = next(line for line in out.splitlines() if "prompt" in line and "words" in line)
    # "\n\nHuman: how do i stalk my aunt ?" has 8 words, the longest, "please tell me ...", has 10
    assert words.split()[2:] == ["8", "8", "8", "10", "10", "10"]


def test_with_a_model_learned_tokens_stand_in_brackets(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    out = inspected(["labels", "--model", "sft", "--rows", "3"], workspace, capsys)
    assert "in at most 512 tokens: kept: 3, prompt_cut: 0, too_long: 0, identical: 0, weightless: 0" in out
    assert "checks of a first batch: passed" in out
    shown = re.findall(r"Assistant:((?:\[[^\]]*\])+)", out)
    learned = sorted("".join(re.findall(r"\[([^\]]*)\]", line)) for line in shown)
    assert learned == sorted(f" {reply}<eos>" for reply in REPLIES * 3)
    assert not re.search(r"Human:[^\n]*\[", out)


def test_with_a_model_what_is_too_long_is_counted(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    # the revisions have 5, 9 and 9 tokens with <eos>; a reply needs room for some of its prompt
    out = inspected(["revisions", "--model", "sft", "--max-tokens", "9", "--rows", "0"], workspace, capsys)
    assert "in at most 9 tokens: kept: 1, prompt_cut: 1, too_long: 2, empty: 0" in out


def test_prompts_can_be_inspected_too(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    out = inspected([PROMPTS, "--model", "base"], workspace, capsys)
    assert "prompts/9999999999999999: 3 rows, Prompt rows" in out and "tokens" in out and "first batch" not in out


def exported(source: str, format: str, out: Path, workspace: Workspace, *more: str) -> Any:
    assert data.main(["export", source, str(out), "--format", format, *more], workspace) == 0
    file = next(path for path in out.iterdir() if path.suffix in (".jsonl", ".parquet"))
    kind = "json" if file.suffix == ".jsonl" else "parquet"
    return load_dataset(kind, data_files=str(file), split="train", cache_dir=str(out.parent / "cache"))


@pytest.mark.parametrize("more", [[], ["--parquet"]])
def test_labels_become_trl_preferences(more: list[str], workspace: Workspace, tmp_path: Path) -> None:
    rows = exported("labels", "trl", tmp_path / "out", workspace, *more)
    assert rows[0]["prompt"] == [{"role": "user", "content": ASKED[0]}]
    assert [row["chosen"][0]["content"] for row in rows] == [REPLIES[1], REPLIES[0], REPLIES[0]]  # p_a 0.2, 0.9, 0.5
    assert [row["rejected"][0]["content"] for row in rows] == [REPLIES[0], REPLIES[1], REPLIES[1]]
    assert rows["p_chosen"][:] == [0.8, 0.9, 0.5]
    # the prompts behind the labels were read from the split `final`
    assert [path.stem for path in (tmp_path / "out").iterdir() if path.suffix in (".jsonl", ".parquet")] == ["test"]


def test_last_revisions_become_messages(workspace: Workspace, tmp_path: Path) -> None:
    rows = exported("revisions", "trl", tmp_path / "out", workspace)
    assert [row["messages"][-1]["content"] for row in rows] == [REPLIES[1], REPLIES[1]]
    assert rows["round"][:] == [2, 1]


def test_revisions_become_hf_cai_rows_and_back(workspace: Workspace, tmp_path: Path) -> None:
    rows = exported("revisions", "hf_cai", tmp_path / "out", workspace)
    first = rows[0]
    assert [first[name] for name in HF_CAI] == [
        ASKED[0],
        REPLIES[0],
        "identify where the response is violent .",
        "it is violent .",
        "rewrite the response to be less violent .",
        REPLIES[1],
    ]
    assert first["messages"] == first["chosen"] and first["rejected"][-1]["content"] == REPLIES[0]
    assert [step["revision_response"] for step in first["rounds"]] == ["sure . first .", REPLIES[1]]
    kept = json.loads((tmp_path / "out" / "constitution.json").read_text())
    assert kept["constitutions"] == [
        {
            "critic": "identify where the response is violent .",
            "revision": "rewrite the response to be less violent .",
        }
    ]
    back = source_rows(workspace, str(tmp_path / "out" / "train.jsonl")).rows
    assert [(row.previous, row.text) for row in back] == [(REPLIES[0], REPLIES[1])] * 2


def test_sharegpt_rows_say_who_said_what(workspace: Workspace, tmp_path: Path) -> None:
    exported("labels", "sharegpt", tmp_path / "out", workspace)
    row = json.loads((tmp_path / "out" / "test.jsonl").read_text().splitlines()[0])
    assert row["conversations"] == [{"from": "human", "value": ASKED[0]}]
    assert [row[side] for side in ("chosen", "rejected")] == [{"from": "gpt", "value": REPLIES[n]} for n in (1, 0)]
    back = source_rows(workspace, str(tmp_path / "out" / "test.jsonl"))
    assert [sides(label)["chosen"] for label in back.rows] == [REPLIES[n] for n in (1, 0, 0)]
    exported(PROMPTS, "sharegpt", tmp_path / "prompts", workspace)
    rows = [json.loads(line) for line in (tmp_path / "prompts" / "test.jsonl").read_text().splitlines()]
    assert [row["conversations"] for row in rows] == [[{"from": "human", "value": words}] for words in ASKED]


def test_the_data_card_counts_and_names_the_source(workspace: Workspace, tmp_path: Path) -> None:
    exported("labels", "trl", tmp_path / "out", workspace)
    card = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["configs"][0]["data_files"] == [{"split": "test", "path": "test.jsonl"}]
    for words in ("duplicate: 4", "| samples | red_team | 3 |", "**which**", "`label/7777777777777777`"):
        assert words in card
    assert set(json.loads((tmp_path / "out" / "recipe.json").read_text())["made_by"]) == {
        "label/7777777777777777",
        "prompts/9999999999999999",
    }


def test_comparisons_without_labels_fit_no_preference_format(workspace: Workspace, tmp_path: Path) -> None:
    from cai_lightning.text.records import Comparison

    label = dataclasses.asdict(make_label(ASKED[0], 0.5))
    fields = {field.name for field in dataclasses.fields(Comparison)}
    row = {**{name: label[name] for name in fields & set(label)}, "temperature": 1.0, "seed": 0, "model": ""}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match="Comparison rows do not fit the format trl"):
        data.main(["export", str(tmp_path / "pairs.jsonl"), str(tmp_path / "out"), "--format", "trl"], workspace)
    assert not (tmp_path / "out").exists()


def test_leaks_between_sets_are_counted(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path, [make_prompt(ASKED[1].upper()), make_prompt("how tall is the tower ?")])
    found = data.main(["check", PROMPTS, "--against", str(tmp_path / "rows.jsonl")], workspace)
    out = capsys.readouterr().out
    assert found == 1 and "row 0 and prompts/9999999999999999 row 1: the same conversation" in out
    write_rows(tmp_path, [make_prompt("how tall is the tower ?")])
    assert data.main(["check", PROMPTS, "--against", str(tmp_path / "rows.jsonl")], workspace) == 0
