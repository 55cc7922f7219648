from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cai_lightning.data.sources import jsonl_prompts, resolve, sample_prompts
from cai_lightning.text.dialogue import Message, human
from cai_lightning.text.records import Prompt, write_rows


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_samples_give_each_prompt_once_whatever_the_row_order(tmp_path: Path) -> None:
    first, second = "\n\nHuman: p\n\nAssistant:", "\n\nHuman: he said\nAssistant: no\n\nAssistant:"
    write(tmp_path / "B_two.jsonl", [{"rl_prompt": second}, {"rl_prompt": first}])
    write(tmp_path / "A_one.jsonl", [{"rl_prompt": first, "sampled_answers": []}])
    found = sample_prompts(folder=tmp_path, kind="benign", limit=None)
    # a role word after a single newline stays inside its turn
    assert [prompt.dialogue for prompt in found.rows] == [human("p"), human("he said\nAssistant: no")]
    assert found.dropped == {"duplicate": 1}
    assert {(prompt.kind, prompt.cluster == prompt.id) for prompt in found.rows} == {("benign", True)}
    assert len(sample_prompts(folder=tmp_path, kind="benign", limit=1).rows) == 1


def test_samples_without_files_or_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no \*\.jsonl file in it"):
        sample_prompts(folder=tmp_path, kind="benign", limit=None)
    write(tmp_path / "a.jsonl", [{"prompt": "x"}])
    with pytest.raises(ValueError, match=r"a\.jsonl:1: no key 'rl_prompt'"):
        sample_prompts(folder=tmp_path, kind="benign", limit=None)


def test_plain_prompts_are_a_turn_or_a_dialogue(tmp_path: Path) -> None:
    path = write(
        tmp_path / "mine.jsonl",
        [{"prompt": "How?"}, {"prompt": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"}, {"prompt": "How?"}],
    )
    found = jsonl_prompts(path=path, kind="red_team", limit=None)
    assert found.rows[0].dialogue == human("How?")
    assert found.rows[1].dialogue == (Message("human", "a"), Message("assistant", "b"), Message("human", "c"))
    assert {(prompt.source, prompt.kind) for prompt in found.rows} == {("mine.jsonl", "red_team")}
    assert found.dropped == {"duplicate": 1}


def test_our_own_rows_come_back_as_they_are(tmp_path: Path) -> None:
    prompts = [Prompt(id=f"i{n}", dialogue=human(f"q{n}"), source="s", kind="benign", cluster="c") for n in range(3)]
    write_rows(tmp_path, prompts)
    assert jsonl_prompts(path=tmp_path / "rows.jsonl", kind="red_team", limit=None).rows == prompts
    assert jsonl_prompts(path=tmp_path / "rows.jsonl", kind="red_team", limit=2).rows == prompts[:2]


own = dataclasses.asdict(Prompt(id="i", dialogue=human("q"), source="s", kind="benign", cluster="c"))


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ({"prompt": "\n\nHuman: a\n\nAssistant: b"}, "must end with a human turn"),
        ({"prompt": "  "}, "must end with a human turn"),
        ({"prompt": "\n\nHuman:"}, "must end with a human turn"),
        ({"text": "x"}, "no key 'prompt'; found text"),
        ({**own, "id": 7}, "'id' must be text, is 7"),
        ({**own, "dialogue": []}, "must end with a human turn"),
        ({**own, "dialogue": [{"role": "human"}]}, "not a Prompt"),
        (
            {**own, "dialogue": [{"role": "user", "content": "x"}]},
            "turn 1 has the role 'user'; it must be system or human or assistant",
        ),
        ({**own, "dialogue": [{"role": "human", "content": None}]}, "'content' must be text"),
        ({**own, "dialogue": "q"}, "not a Prompt"),
        ({**own, "extra": 1}, "unknown field 'extra'"),
        ({key: own[key] for key in own if key != "kind"}, "missing field 'kind'"),
    ],
)
def test_faults_name_file_line_and_cause(tmp_path: Path, row: dict[str, Any], cause: str) -> None:
    path = write(tmp_path / "mine.jsonl", [{"prompt": "fine"}, row])
    with pytest.raises(ValueError, match=cause) as caught:
        jsonl_prompts(path=path, kind="benign", limit=None)
    assert str(caught.value).startswith(f"{path}:2: ")


def test_resolve_finds_whole_and_shared_files(tmp_path: Path) -> None:
    (tmp_path / "evals").mkdir()
    for name in ("a.jsonl", "a.shared.jsonl", "b.shared.jsonl", "c.shared.jsonl.gz"):
        (tmp_path / "evals" / name).touch()
    folder = tmp_path / "evals"
    assert resolve(tmp_path, "evals/a.jsonl") == folder / "a.jsonl"
    assert resolve(folder, "b.jsonl") == folder / "b.shared.jsonl"
    assert resolve(folder, "b.shared.jsonl") == folder / "b.shared.jsonl"
    assert resolve(folder, "c.jsonl.gz") == folder / "c.shared.jsonl.gz"
    with pytest.raises(ValueError, match=r"d\.jsonl: no such file, nor d\.shared\.jsonl"):
        resolve(folder, "d.jsonl")
